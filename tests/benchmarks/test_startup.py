"""What ``ibllm --help`` and ``ibllm plugins`` take over importing what they are made of, measured in turn in one run."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .rounds import both

#: The most that a command may take, as a multiple of the bare imports.
BAR = 2.5
ROUNDS = 21
#: Byte code is written, as for a user, also where the tests' own environment forbids it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    return time.perf_counter() - start


@both
@pytest.mark.parametrize("args", [["--help"], ["plugins"]], ids=" ".join)
def test_start_up_is_near_the_bare_imports(args, measured, record_property):
    bare = [sys.executable, "-c", "import click, pluggy, attrs"]
    command = [str(Path(sys.executable).with_name("ibllm")), *args]
    seconds(bare), seconds(command)  # writes the byte code
    pairs = [(seconds(bare), seconds(command)) for _ in range(ROUNDS if measured else 1)]
    ratio = statistics.median(ours / theirs for theirs, ours in pairs)
    milliseconds = [round(1000 * statistics.median(column)) for column in zip(*pairs, strict=True)]
    record_property("ratio", round(ratio, 2))
    print(f"ibllm {' '.join(args)}: {milliseconds[1]} ms, bare imports {milliseconds[0]} ms, ratio {ratio:.2f} (bar {BAR})")
    assert ratio <= BAR or not measured
