"""What goes with an iteration: its number, and who looks on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from .cycle import Cycle
    from .players import Player


class Watch:
    """Told what is computed while it is computed; this one lets everything pass. Contracts and the search for a fault have their own."""

    def started(self, cycle: Cycle) -> None:
        """A batch of which nothing is computed yet."""

    def computed(self, step: str, part: str, value: Any, inputs: Sequence[Any]) -> None:
        """A part of the model (empty for none) gave `value`. `inputs` are what a step was handed that is no declared step of the cycle itself."""

    def loss(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """The value () of a loss, which `compute` gives."""
        return compute()

    def backward(self, player: Player, loss: Tensor) -> None:
        """The backward pass of a player's weighted losses ()."""
        loss.backward()  # type: ignore[no-untyped-call]


class Present:
    """The iteration that is under way, for what follows its number.

    Attributes:
        step: its number in the stage.
        drawn: the number that is mixed into its noise, () int64 on the device where the iteration is captured; None where noise is always the same.
    """

    def __init__(self, step: int = 0, drawn: int | Tensor | None = None) -> None:
        self.step, self.drawn = step, drawn

    def at(self, weight: Callable[[int], float]) -> float | Tensor:
        """A weight that changes over a stage, now: () on the device where the iteration is captured, and whoever replays it puts the value there."""
        return weight(self.step)
