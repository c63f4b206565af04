"""How parameters follow gradients, and how rates change over a stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch


class Optimizer(ABC):
    """Makes a torch optimizer for a player's parameters. Parameters with fewer than two axes get no weight decay."""

    @abstractmethod
    def build(self, parameters: Mapping[str, torch.nn.Parameter]) -> torch.optim.Optimizer:
        """A fresh optimizer for parameters by name (``parts.text_encoder.embedding.weight``).

        The schedule's factor multiplies the rate ``lr`` that each of its parameter groups has now. Beside its state per parameter it may keep
        numbers in its groups: checkpoints hold both.
        """


@runtime_checkable
class EvaluationWeights(Protocol):
    """A torch optimizer with evaluation weights: it takes gradients at others than those to be used (schedule-free methods); `build` gives it in training mode.

    Validated, kept and reported are the weights to be used, and a stage ends with them.
    """

    def eval(self) -> None:
        """Puts the weights to be used into the parameters."""

    def train(self) -> None:
        """Puts back those at which gradients are taken, up to rounding; the loop itself keeps them bit for bit."""


class Schedule(ABC):
    """A factor on the learning rate over one stage; a pure function of the step, so a restart needs no state."""

    @abstractmethod
    def factor(self, step: int, steps: int) -> float:
        """The factor for `step` in [0, steps)."""
