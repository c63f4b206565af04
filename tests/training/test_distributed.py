"""Several processes train as one."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.processes import ibllm

from .conftest import TINY

pytestmark = pytest.mark.slow

#: Dropout differs from rank to rank; rounding differs, which Adam's first steps would blow up, so plain SGD.
SETS = (
    "losses.contrast={use='contrastive'}",
    "stages.joint.losses.contrast=0.5",
    "compute.device=cpu",
    "compute.threads=1",
    "model.text_encoder.dropout=0.0",
    "model.image_encoder.dropout=0.0",
    "optimizer={use='sgd', lr=0.01}",
    "players.critic.optimizer={use='sgd', lr=0.01}",
    "stages.image.steps=2",
    "stages.joint.steps=3",
    "stages.text.steps=2",
    "training.batch=6",
    "training.checkpoint_every=0",
)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def train(run: Path, ranks: int) -> dict[str, torch.Tensor]:
    command = ibllm("run", TINY, "--run-dir", run, *(part for key in SETS for part in ("--set", key)))
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(ranks)}
    processes = [
        subprocess.Popen(command, env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(ranks)
    ]
    for process in processes:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    return load_file(run / "model" / "weights.safetensors")


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    one, two = train(tmp_path / "one", 1), train(tmp_path / "two", 2)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)
