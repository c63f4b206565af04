"""A long job that is killed at random, cut off from its terminal, or refused every write in turn. Half an hour; ``lasting.py`` runs parts of it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RECIPE = HERE.parent / "training" / "lasting.toml"


def lasting(*words: str) -> str:
    """What `lasting.py` says, in a process that has computed nothing."""
    done = subprocess.run([sys.executable, str(HERE / "lasting.py"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("processes", ["1", "2"])
def test_fifty_of_fifty_end_with_the_same_bits(processes: str) -> None:
    said = lasting("kills", "--processes", processes)
    assert said.count("the same bits") == 50


@pytest.mark.parametrize("error", ["ENOSPC", "ESTALE", "EROFS", "EIO"])
def test_every_write_may_be_refused(error: str) -> None:
    assert "nothing was lost" in lasting("refusals", "--error", error)


@contextmanager
def on_a_terminal(*words: str) -> Iterator[tuple[int, int]]:
    """A command whose controlling terminal is ours: its process, and our end of the terminal."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ["OMP_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "ibllm", *words])
    try:
        os.set_blocking(terminal, False)
        yield process, terminal
    finally:
        with_signal(process, signal.SIGKILL)


def with_signal(process: int, number: signal.Signals) -> None:
    try:
        os.kill(process, number)
        os.waitpid(process, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def ended(process: int, seconds: float) -> int | None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    return None


def test_a_run_whose_terminal_is_gone_stops_with_a_checkpoint(tmp_path: Path) -> None:
    """It hears SIGHUP, and everything that it says goes nowhere."""
    run = tmp_path / "run"
    sets = ("--set", "stages.text.steps=100000", "--set", "stages.text.validate.every=0", "--set", "training.checkpoint_every=100")
    with on_a_terminal("run", str(RECIPE), "--run-dir", str(run), *sets) as (process, terminal):
        until = time.monotonic() + 120
        while not list((run / "checkpoints").glob("step-*")):
            assert time.monotonic() < until
            try:
                os.read(terminal, 1 << 16)
            except BlockingIOError:
                time.sleep(0.1)
        before = max(path.name for path in (run / "checkpoints").glob("step-*"))
        os.close(terminal)
        assert ended(process, 60) == 130
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["status"] == "interrupted"
    assert max(path.name for path in (run / "checkpoints").glob("step-*")) > before
    assert record["output_lost"], "that nobody could read it is written down"
