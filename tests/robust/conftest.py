"""A model that has learned a little, trained once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ibllm_core.interfaces.batch import collate, take
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model
from ibllm_core.recipe import load
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.training.session import Session

TINY = Path(__file__).with_name("tiny.toml")


@pytest.fixture(scope="package")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Cycle]:
    """A model of both directions, in use, and a cycle of 24 test items that it captions."""
    recipe = load(TINY)
    session = Session(recipe, RunDirectory(tmp_path_factory.mktemp("learned")))
    trainer = session.trainer(recipe.stages["image"])
    feeder = session.feeder(trainer.stage)
    try:
        for _, batch in zip(range(trainer.stage.steps), feeder, strict=False):
            trainer.iterate(batch)
    finally:
        feeder.close()
    numbers = np.arange(24, dtype=np.int64)
    batch = collate(take(session.dataset, "test", numbers), session.model.tokenizers, numbers)
    model = session.model.eval()
    return model, Cycle(model, batch.to(model.device), key=(0, "attack"))
