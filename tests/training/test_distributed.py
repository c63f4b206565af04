"""Several processes train as one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.processes import command, free_port

from . import ranks

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("plain_runs")]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes, which joined once, leave of every case."""
    folder = tmp_path_factory.mktemp("two")
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            command(ranks.__file__, folder), env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True
        )
        for rank in ("0", "1")
    ]
    for process in started:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert not [line for line in err.splitlines() if "Warning" in line]
    return folder


@pytest.mark.parametrize("name", ranks.CASES)
def test_two_processes_give_what_one_gives(name: str, two: Path, tmp_path: Path) -> None:
    """A GAN with mismatched captions and penalties, contrastive losses: the first step's gradients, the weights after the last step, checkpoints, logs."""
    ranks.train(tmp_path, name)
    one, other = (load_file(folder / f"{name}.safetensors") for folder in (tmp_path, two))
    assert one.keys() == other.keys(), "a parameter that no loss reaches has no gradient in either"
    for what in ("gradient of critic", "gradient of model", "checkpoint: optimizer-model", "checkpoint: average", "loss/joint"):
        assert any(what in one_of_them for one_of_them in one)
    for what, value in one.items():
        torch.testing.assert_close(other[what], value, rtol=1e-5, atol=1e-5, msg=lambda text, what=what: f"{what}: {text}")
