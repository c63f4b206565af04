"""A stage's iteration, which its procedure plays: on batches, or as a rehearsal that only says who plays what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from ..interfaces.batch import Batch
from ..interfaces.procedure import Iteration
from .cycle import Watch
from .players import MODEL, Player
from .ranks import Ranks

if TYPE_CHECKING:
    from .stage import StageTrainer

#: The turns of an iteration in their order: a player's name, and the losses that it plays.
Turns = tuple[tuple[str, tuple[str, ...]], ...]


class PlayedIteration(Iteration):
    """An iteration on its micro-batches.

    What is computed is kept from turn to turn where the stage has no micro-batches; with them, every graph would be held at once.

    Args:
        trainer: whose players play.
        batches: micro-batches, on the model's device.
        rate: factor on the learning rates.
        watch: told what is computed; the players then get gradients and make no step, and all shares are in this process.
    """

    def __init__(self, trainer: StageTrainer, batches: Sequence[Batch], rate: float = 1.0, watch: Watch | None = None) -> None:
        super().__init__(trainer.players, trainer.step)
        self._trainer, self._batches, self._rate, self._watch = trainer, batches, rate, watch
        self._shares = trainer.shares(batches, trainer.ranks if watch is None else Ranks(), watch=watch)

    def gradients(self, player: Player) -> None:
        trainer, count = self._trainer, len(self._batches)
        player.optimizer.zero_grad(set_to_none=True)
        others = [other for other in self.players if other is not player] if player.name == MODEL else []
        totals: dict[str, Tensor] = {}
        logged: dict[str, Tensor] = {}
        with player.alone(others):
            for cycle in self._shares.cycles():
                with trainer.model.precision():
                    loss, values = player.loss(cycle, self.step)
                share = len(cycle) * trainer.ranks.count / trainer.stage.training.batch
                for name, value in cycle.take_logged().items():
                    logged[name] = logged.get(name, 0) + value * share
                (self._watch or Watch()).backward(player, loss / count)
                for name, value in values.items():
                    totals[name] = totals.get(name, 0) + value / count
        self._shares.end_turn()
        if self._watch is None:
            for name, value in totals.items():
                trainer.record(f"loss/{name}" if player.name == MODEL else f"loss/{player.name}/{name}", value)
            for name, value in logged.items():
                trainer.record(name, value)
            trainer.ranks.average_gradients(player.parameters.values())
            clip = trainer.stage.training.clip
            if clip > 0:
                norm = torch.nn.utils.clip_grad_norm_(list(player.parameters.values()), clip)
                trainer.record(f"grad_norm/{player.name}", norm.detach())

    def forget(self) -> None:
        self._shares.forget()

    def move(self, player: Player) -> None:
        if self._watch is None:
            player.set_rate(self._rate)
            player.optimizer.step()


class Rehearsal(Iteration):
    """An iteration in which nothing is computed and nothing moves; players' steps are counted, and `turns` says who played what."""

    turns: Turns = ()

    def gradients(self, player: Player) -> None:
        self.turns += ((player.name, tuple(term.name for term in player.due())),)

    def forget(self) -> None:
        pass

    def move(self, player: Player) -> None:
        pass


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
    players: Mapping[str, int]
    count: int
