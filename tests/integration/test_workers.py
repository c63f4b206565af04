"""Worker processes end with their run, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
SETS = ("compute.device=cpu", "compute.threads=1", "compute.workers=2", "stages.text.steps=1000000", "stages.text.validate.every=0")

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked for in /proc")


def children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


@contextmanager
def started(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A run in a session of its own that has made some steps, and its workers."""
    words = [sys.executable, "-m", "ibllm", "run", str(TINY), "--run-dir", str(folder), *(f"--set={one}" for one in SETS)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        try:
            until = time.monotonic() + 60
            while not (rows := folder / "metrics.jsonl").exists() or rows.stat().st_size < 1000:
                assert run.poll() is None and time.monotonic() < until
                time.sleep(0.1)
            workers = children(run.pid)
            assert len(workers) == 2
            yield run, workers
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)


def ended(workers: list[int], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < until:
        time.sleep(0.1)
    return not any(Path(f"/proc/{worker}").exists() for worker in workers)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_ends_its_workers_and_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C in a terminal reaches all processes; ``kill`` the run alone."""
    with started(tmp_path / "run") as (run, workers):
        os.killpg(run.pid, number) if number == signal.SIGINT else run.send_signal(number)
        _, said = run.communicate(timeout=60)
        assert run.returncode == 130 and "go on with: ibllm run" in said and "Traceback" not in said
        assert ended(workers, 1)
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_workers_do_not_outlive_a_run_that_is_killed(tmp_path: Path) -> None:
    with started(tmp_path / "run") as (run, workers):
        run.kill()
        run.wait()
        assert ended(workers, 15)


def test_a_worker_that_is_killed_ends_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    with started(tmp_path / "run") as (run, workers):
        os.kill(workers[0], signal.SIGKILL)
        _, said = run.communicate(timeout=60)
        assert run.returncode == 2 and f"is gone: DataLoader worker (pid(s) {workers[0]})" in said and "Traceback" not in said
        assert ended(workers, 1)
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))
