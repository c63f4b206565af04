"""How parameters follow gradients, and how rates change over a stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Optimizer(ABC):
    """Makes a torch optimizer for a player's parameters. Parameters with fewer than two axes get no weight decay."""

    #: The rate that a schedule's factor multiplies.
    lr: float

    @abstractmethod
    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """A fresh optimizer."""


class Schedule(ABC):
    """A factor on the learning rate over one stage; a pure function of the step, so a restart needs no state."""

    @abstractmethod
    def factor(self, step: int, steps: int) -> float:
        """The factor for `step` in [0, steps)."""
