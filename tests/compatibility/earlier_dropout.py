"""The command line with dropout drawn as 0.1 drew it, from torch's global generator, seeded anew in every step: what a run of 0.1 goes on with to the bit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from ibllm_cli.main import main

from ibllm.blocks.layers import Dropout
from ibllm_core.interfaces.randomness import derive_key
from ibllm_core.model import cycle
from ibllm_core.model.stage import StageTrainer


@contextmanager
def seeded(trainer: StageTrainer) -> Iterator[None]:
    torch.manual_seed(derive_key(trainer.recipe.seed.data, "dropout", trainer.stage.name, trainer.step, trainer.ranks.rank))
    yield


@contextmanager
def unkeyed(rng: Any) -> Iterator[Any]:
    yield lambda: False


if __name__ == "__main__":
    StageTrainer._seeded = seeded  # type: ignore[assignment,method-assign]
    Dropout.forward = lambda self, x, start=0: F.dropout(x, self.p, self.training)  # type: ignore[method-assign]
    cycle.drawing_from = unkeyed
    sys.exit(main())
