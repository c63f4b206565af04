"""The kinds of iteration that a stage has, found out without computing any."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

from ibllm_core.interfaces.optimisation import Iteration
from ibllm_core.model import build
from ibllm_core.model.players import Player
from ibllm_core.model.stage import StageTrainer

#: The turns of an iteration in their order: a player's name, and the losses that it plays.
Turns = tuple[tuple[str, tuple[str, ...]], ...]


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


def kinds_of(trainer: StageTrainer) -> list[IterationKind]:
    """The kinds of iteration that the stage has, the one of its first step first; found out by a rehearsal, in which nothing is computed."""
    procedure, now = build.build_procedure(trainer.recipe, trainer.stage), trainer.played()
    period = math.lcm(procedure.period, *(player.every * term.every for player in trainer.players for term in player.terms))
    found: dict[Turns, IterationKind] = {}
    trainer.go_to(trainer.step, dict.fromkeys(now, 0))
    for step in range(min(period, trainer.stage.steps)):
        rehearsal, before = Rehearsal(trainer.players, step), trainer.played()
        procedure.iterate(rehearsal)
        kind = found.get(rehearsal.turns) or IterationKind(rehearsal.turns, step, before, 0)
        found[rehearsal.turns] = attrs.evolve(kind, count=kind.count + 1)
    trainer.go_to(trainer.step, now)
    return list(found.values())
