"""Shipped recipes, twenty iterations of every stage: replayed they do what eager ones do, bit for bit (without a card, by a recorder of operations)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from ibllm_testing import recording
from torch import Tensor

from ibllm_core.recipe import load
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.training.session import Session

RECIPES = Path(__file__).parents[2] / "recipes"
NAMES = (
    "joint",
    "families/transformer_gan",
    "families/flow",
    "families/attngan",
    "families/lstm_cnn",
    "families/vq_transformer",
    "llm/unified",
    "llm/transfusion",
)

#: torch's Muon reads a number off the device in every step, so nothing of it is captured: what these are made of is, with another optimizer.
SETS = dict.fromkeys(("llm/unified", "llm/transfusion"), ('optimizer={ use = "adamw", lr = 2e-3 }',))


def play(name: str, path: Path, device: torch.device, captured: bool) -> tuple[list[Tensor], dict[str, int]]:
    """Trains every stage for twenty iterations; gives the weights and how many iterations were replayed a stage."""
    recipe = load(
        RECIPES / f"{name}.toml", (f"compute.device={device.type}", "training.batch=4", "data.train_size=64", *SETS.get(name, ()))
    )
    session, replayed = Session(recipe, RunDirectory(path)), {}
    for stage in recipe.running():
        trainer = session.trainer(stage)
        if device.type != "cuda":
            recording.rates_on_the_device(trainer)
        trainer.replays = captures = recording.captured(trainer, session.tell) if captured else None
        feeder = session.feeder(stage)
        for _ in range(20):
            trainer.iterate([batch.padded(session.model.tokenizers, 32) for batch in feeder.make(trainer.step)])
        feeder.close()
        replayed[stage.name] = captures.described()["replayed"] if captures is not None else 0
    assert not session.notices
    return [t.detach().cpu() for t in session.model.state_dict().values()], replayed


@pytest.mark.parametrize("name", NAMES)
def test_a_recipes_replayed_iterations_are_eager_ones(name: str, tmp_path: Path, device: torch.device, monkeypatch: Any) -> None:
    monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr("ibllm_unified.backbone.counts_places", lambda x: False)  # on the CPU it may, on what is played here it may not
    torch.use_deterministic_algorithms(True)
    try:
        eager, _ = play(name, tmp_path / "eager", device, False)
        found, replayed = play(name, tmp_path / "captured", device, True)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(count >= 4 for count in replayed.values()), replayed
    assert all(torch.equal(a, b) for a, b in zip(eager, found, strict=True))
