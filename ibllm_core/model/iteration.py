"""A stage's iteration, which its procedure plays: on batches, or as a rehearsal that only says who plays what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from ..interfaces.batch import Batch
from ..interfaces.loss import Scale
from ..interfaces.procedure import Iteration
from .cycle import Cycle, Watch
from .players import MODEL, Player

if TYPE_CHECKING:
    from .stage import StageTrainer

#: The turns of an iteration in their order: a player's name, and the losses that it plays.
Turns = tuple[tuple[str, tuple[str, ...]], ...]


class PlayedIteration(Iteration):
    """An iteration on its micro-batches.

    Args:
        trainer: whose players play.
        batches: micro-batches, on the model's device.
        rate: factor on the learning rates.
        watch: told what is computed; the players then get gradients and make no step.
        keep: what is computed is kept from turn to turn; by default where there is a single batch, since with micro-batches every graph would be
            held at once.
    """

    def __init__(
        self, trainer: StageTrainer, batches: Sequence[Batch], rate: float = 1.0, watch: Watch | None = None, keep: bool | None = None
    ) -> None:
        super().__init__(trainer.players, trainer.step)
        self._trainer, self._batches, self._rate, self._watch = trainer, batches, rate, watch
        self._keep = len(batches) == 1 if keep is None else keep
        self._scale = trainer.scale(batches) if watch is None else Scale()
        self._cycles: list[Cycle] = []

    def gradients(self, player: Player) -> None:
        trainer, batches = self._trainer, self._batches
        player.optimizer.zero_grad(set_to_none=True)
        others = [other for other in self.players if other is not player] if player.name == MODEL else []
        totals: dict[str, Tensor] = {}
        with player.alone(others):
            for number in range(len(batches)):
                with trainer.model.precision():
                    loss, values = player.loss(self._cycle(number), self.step)
                (self._watch or _UNWATCHED).backward(player, loss / len(batches))
                for name, value in values.items():
                    totals[name] = totals.get(name, 0) + value / len(batches)
        if self._watch is None:
            for name, value in totals.items():
                trainer.record(f"loss/{name}" if player.name == MODEL else f"loss/{player.name}/{name}", value)
            trainer.ranks.average_gradients(player.parameters.values())
            clip = trainer.stage.training.clip
            if clip > 0:
                norm = torch.nn.utils.clip_grad_norm_(list(player.parameters.values()), clip)
                trainer.record(f"grad_norm/{player.name}", norm.detach())

    def forget(self) -> None:
        self._cycles = []

    def move(self, player: Player) -> None:
        if self._watch is None:
            player.set_rate(self._rate)
            player.optimizer.step()

    def update(self, player: Player) -> None:
        self.move(player)
        player.steps += 1

    def _cycle(self, number: int) -> Cycle:
        if not self._keep:
            return self._trainer.cycle(self._batches[number], self._scale, self._watch)
        if not self._cycles:
            self._cycles = [self._trainer.cycle(batch, self._scale, self._watch) for batch in self._batches]
        return self._cycles[number]


_UNWATCHED = Watch()


class Rehearsal(Iteration):
    """An iteration in which nothing is computed and nothing moves; `turns` says who played what.

    Args:
        steps: player → how often it has played before; counted on.
    """

    def __init__(self, players: Sequence[Player], step: int, steps: dict[str, int]) -> None:
        super().__init__(players, step)
        self._steps, self._turns = steps, list[tuple[str, tuple[str, ...]]]()

    @property
    def turns(self) -> Turns:
        return tuple(self._turns)

    def gradients(self, player: Player) -> None:
        self._turns.append((player.name, tuple(term.name for term in player.due(self._steps[player.name]))))

    def forget(self) -> None:
        pass

    def move(self, player: Player) -> None:
        pass

    def update(self, player: Player) -> None:
        self._steps[player.name] += 1


@attrs.frozen
class IterationKind:
    """Iterations of a stage in which the same players play the same losses.

    Attributes:
        turns: who plays what.
        step: the first of them.
        players: player → how often it has played before that one.
        count: how many of them there are until the turns repeat.
    """

    turns: Turns
    step: int
    players: dict[str, int]
    count: int
