"""The command line with what 0.1 drew otherwise: dropout from torch's global generator, seeded anew in every step, other noise by a key for
each step, and the order of items by sorting.

With it a run of 0.1 goes on to the bit.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ibllm_cli.main import main

from ibllm.blocks.layers import Dropout
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.randomness import derive_key
from ibllm_core.model import cycle
from ibllm_core.model.stage import StageTrainer
from ibllm_core.training import feeding


@contextmanager
def seeded(trainer: StageTrainer) -> Iterator[None]:
    torch.manual_seed(derive_key(trainer.recipe.seed.data, "dropout", trainer.stage.name, trainer.step, trainer.ranks.rank))
    yield


@contextmanager
def unkeyed(rng: Any) -> Iterator[Any]:
    yield lambda: False


class Order:
    """An epoch's items sorted by numbers drawn for them."""

    def __init__(self, size: int, key: tuple[int | str, ...]) -> None:
        self._size = size
        self._epoch = functools.cache(lambda epoch: Rng((*key, "order"), [epoch]).integers(2**53, size)[0].argsort(stable=True).numpy())

    def __call__(self, positions: Any) -> Any:
        return np.array([self._epoch(position // self._size)[position % self._size] for position in positions.tolist()], np.int64)


def by_step(shares: Any) -> Any:
    """A stage's noise keyed by the step's number as a word, not mixed with it."""

    def keyed(trainer: StageTrainer, batches: Any, ranks: Any, key: Any = None, *more: Any, **others: Any) -> Any:
        key = key or (trainer.recipe.seed.data, "train", trainer.stage.name, trainer.step)
        return shares(trainer, batches, ranks, key, *more, **others)

    return keyed


if __name__ == "__main__":
    StageTrainer.shares = by_step(StageTrainer.shares)  # type: ignore[method-assign]
    feeding.Order = Order  # type: ignore[assignment,misc]
    StageTrainer._seeded = seeded  # type: ignore[assignment,method-assign]
    Dropout.forward = lambda self, x, start=0: F.dropout(x, self.p, self.training)  # type: ignore[method-assign]
    cycle.drawing_from = unkeyed
    sys.exit(main())
