"""How a stage is trained: how an iteration is played, how parameters follow gradients, and how rates change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch

    from ..model.players import Player


class Optimizer(ABC):
    """Makes a torch optimizer for a player's parameters. Parameters with fewer than two axes get no weight decay."""

    @abstractmethod
    def build(self, parameters: Mapping[str, torch.nn.Parameter]) -> torch.optim.Optimizer:
        """A fresh optimizer for parameters by name (``parts.text_encoder.embedding.weight``).

        The schedule's factor multiplies the rate ``lr`` that each of its parameter groups has now. Beside its state per parameter it may keep
        numbers in its groups: checkpoints hold both. Iterations can be captured (CUDA graphs) where each rate is a tensor () on the parameters' device
        and a step waits for nothing, which torch's optimizers call ``capturable``.
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


class Iteration(ABC):
    """One iteration of a stage, for a procedure to play. It has the batch, or its micro-batches, and what is computed of them.

    Args:
        players: all of the stage, the critic first; there may be the model alone.
        step: the iteration's number in the stage, from 0.
    """

    def __init__(self, players: Sequence[Player], step: int) -> None:
        self.players, self.step = tuple(players), step

    @property
    def due(self) -> tuple[Player, ...]:
        """The players whose turn it is in this iteration (`players.NAME.every`)."""
        return tuple(player for player in self.players if player.plays(self.step))

    @abstractmethod
    def gradients(self, player: Player) -> None:
        """Puts the gradients of its losses' weighted sum into a player's parameters: of all micro-batches and ranks, clipped as the recipe says.

        What was computed of the batch is used again by who comes next: a critic that plays first sees the images that the model is then trained by.
        """

    @abstractmethod
    def forget(self) -> None:
        """What was computed of the batch is computed anew, with the same noise: to be said where weights were moved in between."""

    @abstractmethod
    def move(self, player: Player) -> None:
        """One step of the player's optimizer along its gradients; the player's count of steps stays."""

    def update(self, player: Player) -> None:
        """`move`, counted: the player has played, and those of its losses that are due next are those of its next step."""
        self.move(player)
        player.steps += 1


class Procedure:
    """Plays iterations one after the other: the players that are due take turns, each with its gradients and its step, the critic first.

    The model plays after the critic's step, on the images that the critic saw; with micro-batches they are drawn again, for keeping every graph would
    defeat their purpose. Subclasses play otherwise. There is one procedure for each stage.

    A procedure is played without any effect by who counts what an iteration costs or looks for a fault: on the meta device, with optimizers
    that make no step. So it computes through the iteration alone, and what it does to weights itself does not depend on their values.
    """

    #: Iterations after which it plays alike again; more than 1 where some iterations have other turns than others.
    period: int = 1

    def iterate(self, iteration: Iteration) -> None:
        """Plays one iteration."""
        for player in iteration.due:
            iteration.gradients(player)
            iteration.update(player)

    def alike(self, step: int) -> Hashable:
        """Equal for iterations that it plays alike; they may be captured and replayed (CUDA graphs). None, the default of who plays otherwise, forbids it."""
        return 0 if type(self).iterate is Procedure.iterate else None

    def state(self) -> Mapping[str, torch.Tensor]:
        """Name → tensor: all that the next iteration depends on beside its number. It is part of the checkpoints."""
        return {}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes back what `state` gave, on whatever device."""
        assert not state, "a procedure that has a state restores it"
