"""Another project's model in a process and an environment of its own, timed in turns with ours."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from .needs import needs

ROUNDS, WARM_UP = 11, 3


def python_of(folder: Path) -> Path:
    """The interpreter of an environment in `folder`."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def environment(folder: Path, name: str, needed: Sequence[str], without_their_needs: Sequence[str]) -> Path:
    """The interpreter of an environment in `folder`, with our torch, what is `needed`, and packages whose own needs are left out."""
    found = python_of(folder)
    if not found.exists():
        venv.create(folder, with_pip=True)
    pip = [str(found), "-m", "pip", "install", "--quiet"]
    for words in ([f"torch=={torch.__version__.partition('+')[0]}", *needed], ["--no-deps", *without_their_needs]):
        needs(f"{name}, which pip cannot install here", subprocess.run([*pip, *words], check=False).returncode == 0)
    return found


class Peer:
    """The process that a peer runs in: it writes the number of its parameters, then answers each line with the CPU seconds that it took."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.parameters = int(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the peer's process ended"
        return line

    def seconds(self, what: str) -> float:
        assert self.process.stdin is not None
        print(what, file=self.process.stdin, flush=True)
        return float(self._line())


@contextmanager
def started(python: Path, script: str, sizes: Mapping[str, int]) -> Iterator[Peer]:
    """The peer of a script beside this file, on one thread, until the block ends."""
    command = [str(python), "-W", "ignore", str(Path(__file__).with_name(script)), json.dumps(sizes)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        yield Peer(process)  # closing its input ends it


def paired(what: str, ours: Callable[[], None], peer: Peer, name: str) -> float:
    """The median over some rounds of our CPU time over the peer's, side by side."""
    pairs = []
    for number in range(ROUNDS + WARM_UP):
        begun = time.process_time()
        ours()
        pair = (time.process_time() - begun, peer.seconds(what))
        if number >= WARM_UP:
            pairs.append(pair)
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{what}: ours {mine:.3f} s, {name} {theirs:.3f} s, ratio {ratio:.3f}", file=sys.stderr)
    return ratio
