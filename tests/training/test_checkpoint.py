"""Checkpoints on their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from ibllm_core.model.players import pack_optimizer, unpack_optimizer
from ibllm_core.runs import directory
from ibllm_core.training import checkpoints as checkpoints
from ibllm_core.training.checkpoints import Checkpoint

STATE = {"global_step": 1, "records": [], "seconds": {}, "stage": 0}


def write(folder: Path, name: str, value: float) -> Path:
    return checkpoints.save(folder / name, Checkpoint(STATE | {"step": value}, {"weights": {"w": torch.full((3,), value)}}))


def test_the_newest_comes_back(tmp_path: Path) -> None:
    for step in (10, 200, 30):
        write(tmp_path, f"step-{step:07d}", step)
    found, passed = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.state == STATE | {"step": 200}
    assert passed == {}
    assert torch.equal(found.tensors["weights"]["w"], torch.full((3,), 200.0))


def test_all_of_it_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut a checkpoint is whole or not there: its files are synced, then it is renamed, then the folder that names it is synced."""
    happened: list[str] = []
    replace = os.replace

    def renamed(old: Path, new: Path) -> None:
        happened.append(f"renamed {Path(new).name}")
        replace(old, new)

    for module in (directory, checkpoints):
        monkeypatch.setattr(module, "sync", lambda path: happened.append("partial" if path.name.endswith(".partial") else path.name))
    monkeypatch.setattr(os, "replace", renamed)
    write(tmp_path / "checkpoints", "step-0000001", 1)
    at = happened.index("renamed step-0000001")
    assert {"weights.safetensors", "state.json", "hashes.json", "partial"} <= set(happened[:at])
    assert happened[at + 1 :] == ["checkpoints"]


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("weights.safetensors", b"flip", "weights.safetensors is not as it was written"),
        ("weights.safetensors", b"cut", "weights.safetensors is not as it was written"),
        ("weights.safetensors", None, "weights.safetensors: No such file or directory"),
        ("state.json", b"[]", "state.json is not as it was written"),
        ("hashes.json", None, "hashes.json: No such file or directory"),
        ("hashes.json", b"{", "hashes.json cannot be read: Expecting property name"),
        ("hashes.json", b"\xff", "hashes.json cannot be read: 'utf-8' codec"),
        *(("hashes.json", content, "hashes.json does not name the files") for content in (b"[]", b"3", b"null", b"{}", b'"x"')),
        ("hashes.json", b'{"state.json": 3, "weights.safetensors": null}', "state.json, weights.safetensors is not as it was written"),
    ],
)
def test_a_damaged_one_is_passed_over_and_why(tmp_path: Path, file: str, content: bytes | None, reason: str) -> None:
    write(tmp_path, "step-0000001", 1)
    path = write(tmp_path, "step-0000002", 2) / file
    if content is None:
        path.unlink()
    else:
        held = path.read_bytes()
        path.write_bytes({b"flip": held[:-1] + bytes([held[-1] ^ 1]), b"cut": held[:-2]}.get(content, content))
    found, passed = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.state == STATE | {"step": 1}
    assert list(passed) == ["step-0000002"]
    assert passed["step-0000002"].startswith(reason)


@pytest.mark.parametrize("state", [{}, [], {"step": 1}, None])
def test_one_whose_state_lacks_something_is_passed_over(tmp_path: Path, state: object) -> None:
    checkpoints.save(tmp_path / "step-0000001", Checkpoint(state, {"weights": {"w": torch.ones(1)}}))  # type: ignore[arg-type]
    assert checkpoints.newest(tmp_path) == (None, {"step-0000001": "state.json does not hold global_step, records, seconds, stage, step"})


def test_a_half_written_one_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".step-0000001.partial").mkdir()
    assert checkpoints.newest(tmp_path) == (None, {})


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
