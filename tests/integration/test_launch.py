"""Several processes, launched for real: they stop together, name the one that is gone, and go on where torch's launcher starts them again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
#: Plain SGD and no dropout, so that the number of processes makes a difference of rounding only.
SETS = (
    "compute.device=cpu", "compute.threads=1", "evaluation.items=2", "training.log_every=2", "training.batch=6",
    "model.text_encoder.dropout=0.0", "model.image_encoder.dropout=0.0",
    "optimizer={use='sgd', lr=0.01, momentum=0.5}", "players.critic.optimizer={use='sgd', lr=0.01}",
)  # fmt: skip
LONG = ("stages.text.steps=100000", "stages.text.validate.every=0")
SHORT = ("stages.text.steps=6", "stages.image.steps=6", "stages.joint.steps=6", "training.checkpoint_every=2")


def command(run: Path, *sets: str) -> list[str]:
    return ["-m", "ibllm", "run", str(TINY), "--run-dir", str(run), *(word for key in (*SETS, *sets) for word in ("--set", key))]


def start(*words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def processes(run: Path) -> dict[int, str]:
    """The processes of a run: process id → its rank, or nothing for what launched them."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if str(run) in (path / "cmdline").read_text() and int(path.name) != os.getpid():
                variables = dict(one.partition("=")[::2] for one in (path / "environ").read_text().split("\0"))
                found[int(path.name)] = variables.get("RANK", "")
        except OSError:
            continue
    return found


def until(what: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.1)


def has_checkpoint(run: Path) -> bool:
    return any((run / "checkpoints").glob("step-*"))


def rank_of(run: Path, wanted: str) -> int:
    return next(process for process, rank in processes(run).items() if rank == wanted)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_all_stop_with_a_checkpoint_and_no_process_is_left(tmp_path: Path, sent: signal.Signals) -> None:
    run = tmp_path / "run"
    launched = start(*command(run, *LONG), "--nproc", "2")
    until(lambda: has_checkpoint(run))
    launched.send_signal(sent)
    _, err = launched.communicate(timeout=60)
    assert launched.returncode == 130
    assert err.count("stopping at the next step") == 1
    assert err.count(f"go on with: ibllm run {run} --resume --nproc 2") == 1
    assert "Traceback" not in err
    assert "torch" not in err
    assert not processes(run)
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize("killed", ["0", "1"])
def test_a_process_that_was_killed_ends_the_others_and_is_named(tmp_path: Path, killed: str) -> None:
    run = tmp_path / "run"
    launched = start(*command(run, *LONG), "--nproc", "2")
    until(lambda: has_checkpoint(run))
    process = rank_of(run, killed)
    os.kill(process, signal.SIGKILL)
    _, err = launched.communicate(timeout=60)
    assert launched.returncode == 2
    assert f"error: rank {killed} (process {process})" in err
    assert "--resume" in err
    assert "Traceback" not in err
    assert "ChildFailedError" not in err
    assert not processes(run)


def test_a_mistake_is_said_once_with_its_exit_code(tmp_path: Path) -> None:
    launched = start(*command(tmp_path / "run", "training.batch=2"), "--nproc", "3")
    _, err = launched.communicate(timeout=120)
    assert launched.returncode == 2
    assert err.count("has too few items for 3 processes") == 1
    assert "Traceback" not in err


def test_torchrun_starts_a_job_again_from_its_newest_checkpoint(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    sets = (*SHORT, "stages.text.steps=60", "stages.text.validate.every=0")
    assert start(*command(other, *sets)).wait(timeout=300) == 0
    run_by = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1")
    launched = start(*run_by, *command(run, *sets))
    until(lambda: has_checkpoint(run))
    os.kill(rank_of(run, "1"), signal.SIGKILL)
    _, err = launched.communicate(timeout=300)
    assert launched.returncode == 0, err
    said = "torchrun has started the processes again: the run goes on from its newest checkpoint"
    assert json.loads((run / "run.json").read_text())["notices"].count(said) == 1
    close(run, other)
    again = start(*run_by, *command(run, *sets))
    _, err = again.communicate(timeout=300)
    assert again.returncode != 0
    assert err.count(f"{run} exists already") >= 2, "a run of another job is not taken up, however often it is tried"


@pytest.mark.parametrize("shard", ["false", "true"])
def test_a_run_goes_on_with_other_numbers_of_processes(tmp_path: Path, shard: str) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    assert start(*command(other, *SHORT)).wait(timeout=300) == 0
    words = command(run, *SHORT, f"compute.shard={shard}")
    for count, stage in (("2", "text"), ("1", "image"), ("3", "joint")):
        launched = start(*words, "--nproc", count)
        if stage != "joint":
            until(lambda stage=stage: any(row["stage"] == stage for row in figures(run)))
            launched.send_signal(signal.SIGINT)
        _, err = launched.communicate(timeout=300)
        assert launched.returncode in (0, 130), err
        words = ["-m", "ibllm", "run", str(run), "--resume"]
    close(run, other)


def figures(run: Path) -> list[dict[str, object]]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []


def close(run: Path, other: Path) -> None:
    found, expected = (load_file(path / "model" / "weights.safetensors") for path in (run, other))
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-5)
