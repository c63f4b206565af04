"""Checkpoints on their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ibllm_core.model.optimizer_state import pack_optimizer, unpack_optimizer
from ibllm_core.training import checkpoints as checkpoints
from ibllm_core.training.checkpoints import Checkpoint


def write(folder: Path, name: str, value: float) -> Path:
    return checkpoints.save(folder / name, Checkpoint({"step": value}, {"weights": {"w": torch.full((3,), value)}}))


def test_the_newest_comes_back(tmp_path: Path) -> None:
    for step in (10, 200, 30):
        write(tmp_path, f"step-{step:07d}", step)
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.state == {"step": 200}
    assert torch.equal(found.tensors["weights"]["w"], torch.full((3,), 200.0))


@pytest.mark.parametrize("harm", ["flip", "cut", "lose", "hashes"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, harm: str) -> None:
    write(tmp_path, "step-0000001", 1)
    newest = write(tmp_path, "step-0000002", 2)
    weights = newest / "weights.safetensors"
    if harm == "flip":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif harm == "cut":
        weights.write_bytes(weights.read_bytes()[:-2])
    elif harm == "lose":
        weights.unlink()
    else:
        (newest / "hashes.json").write_text("{")
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.state == {"step": 1}


def test_a_half_written_one_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".step-0000001.partial").mkdir()
    assert checkpoints.newest(tmp_path) is None


def test_pruning_keeps_the_newest_and_the_ends_of_stages(tmp_path: Path) -> None:
    for name in ("step-0000001", "step-0000002-end", "step-0000003", "step-0000004"):
        write(tmp_path, name, 0)
    checkpoints.prune(tmp_path, 1)
    assert [path.name for path in checkpoints.all_in(tmp_path)] == ["step-0000004", "step-0000002-end"]


@pytest.mark.parametrize("make", [torch.optim.AdamW, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)], ids=["adamw", "sgd"])
def test_an_optimizer_goes_on_as_if_nothing_happened(make) -> None:  # type: ignore[no-untyped-def]
    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, numbers: range) -> None:
        for number in numbers:
            optimizer.zero_grad()
            (model(torch.full((2, 3, 4, 4), float(number)).sin()).square().sum()).backward()
            optimizer.step()

    torch.manual_seed(0)
    model = nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
    torch.manual_seed(0)
    other = nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
    whole = make(model.parameters())
    steps(model, whole, range(6))

    first = make(other.parameters())
    steps(other, first, range(3))
    tensors, values = pack_optimizer(first)
    second = make(other.parameters())
    unpack_optimizer(second, {name: tensor.contiguous().clone() for name, tensor in tensors.items()}, values)
    steps(other, second, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
