"""One iteration of a stage on the meta device: do its losses keep their contract, what do they cost to train?"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from ..errors import UserError
from ..host.attribution import building
from ..interfaces.batch import Batch
from ..model import build
from ..model.cycle import fabricate
from ..model.model import Model
from ..model.players import MODEL, Player, Turns, make_players, period, set_trainable, turns
from ..recipe.schema import Recipe, Stage
from .inputs import GuardedCycle
from .meter import Meter
from .shapes import META, expect_shape


@attrs.frozen
class StageRow:
    """One stage: what one iteration of it costs.

    Attributes:
        trained: parameters that it trains.
        saved: most bytes kept for a player's backward pass at once, at the stage's batch size (per micro-batch).
        flops: of one item in one iteration: all players' forward and backward passes, multiplications and additions counted apart, averaged over
            iterations where a loss or a player has `every` > 1. Matrix products and convolutions are counted, as everywhere; texts have their
            tokenizer's full length. None where the backward pass has an operation that the meta device lacks.
    """

    stage: str
    steps: int
    losses: tuple[str, ...]
    trained: int
    saved: int
    flops: int | None


def walk_stage(recipe: Recipe, model: Model, stage: Stage, meter: Meter) -> StageRow:
    """Plays every kind of iteration that a stage has once, as `training.stage` does, but for the optimizers' steps."""
    names = build.losses_with_terms(recipe, tuple(stage.losses))
    with META:
        losses = build.build_losses(recipe, names, model)
    set_trainable(model, stage.train)
    size = max(2, stage.training.batch // stage.training.accumulate)
    batch = _as_given(recipe, fabricate(model, size, META))
    players = make_players(recipe, stage, model, losses)

    def cycle() -> GuardedCycle:
        return GuardedCycle(model, batch, losses, (0,))

    # The first iteration is the one in which everybody plays everything.
    kinds = Counter(turns(players, step) for step in range(min(period(players), stage.steps)))
    walks = {kind: _Walk(recipe, stage, players, kind, meter) for kind in kinds}
    for walk in walks.values():
        walk.play(cycle)
    build.build_schedule(recipe, stage)
    counted = [walk.flops * kinds[kind] for kind, walk in walks.items() if walk.flops is not None]
    return StageRow(
        stage=stage.name,
        steps=stage.steps,
        losses=tuple(stage.losses),
        trained=sum(p.numel() for player in players for p in player.parameters.values()),
        saved=max(walk.saved for walk in walks.values()),
        flops=round(sum(counted) / kinds.total() / size) if len(counted) == len(walks) else None,
    )


class _Walk:
    """One kind of iteration: its FLOPs (of the whole micro-batch, None where they cannot be counted) and the bytes kept for the backward pass."""

    def __init__(self, recipe: Recipe, stage: Stage, players: Sequence[Player], kind: Turns, meter: Meter) -> None:
        self._recipe, self._stage, self._players, self._kind, self._meter = recipe, stage, players, dict(kind), meter
        self._kept = _Kept()
        self.flops: int | None = None
        self.saved = 0

    def play(self, cycle: Callable[[], GuardedCycle]) -> None:
        """Every player's turn. `cycle` gives a fresh cycle: one for all players, or one for each where there are micro-batches."""
        shared = cycle() if self._stage.training.accumulate == 1 else None
        before, counted = self._meter.flops, True
        for player in self._players:
            if player.name not in self._kind:
                continue
            others = [other for other in self._players if other is not player] if player.name == MODEL else []
            with player.alone(others), self._meter:
                total = self._forward(player, shared or cycle())
                self.saved = max(self.saved, self._kept.bytes(player.parameters.values()))
                counted &= self._backward(player, total)
        self.flops = self._meter.flops - before if counted else None

    def _forward(self, player: Player, cycle: GuardedCycle) -> Tensor:
        cycle.begin_play()
        values = []
        for name in self._kind[player.name]:
            component = self._recipe.losses[name].component
            with building(component, f"losses.{name}", f"in stage {self._stage.name}: "):
                with torch.autograd.graph.saved_tensors_hooks(self._kept.pack, self._kept.unpack):
                    value = player.value(cycle, name)
                expect_shape("value", value, "", ())
                cycle.check()
            values.append(value)
        if not values:
            problem = f"the {player.name} has nothing to minimise where none of its losses is played: one of them needs every = 1"
            raise UserError(f"stages.{self._stage.name}: {problem}", self._stage.place)
        return torch.stack([value.float() for value in values]).sum()

    def _backward(self, player: Player, total: Tensor) -> bool:
        """False where the meta device lacks an operation of it."""
        try:
            total.backward()  # type: ignore[no-untyped-call]
        except NotImplementedError:
            return False
        except Exception as error:
            problem = f"the backward pass of the {player.name}'s losses: {type(error).__name__}: {error}"
            raise UserError(f"stages.{self._stage.name}: {problem}", self._stage.place) from error
        finally:
            for p in player.parameters.values():
                p.grad = None
        return True


class _Kept:
    """What autograd keeps at present for backward passes."""

    def __init__(self) -> None:
        self._holders: weakref.WeakSet[_Holder] = weakref.WeakSet()

    def pack(self, tensor: Tensor) -> _Holder:
        holder = _Holder(tensor)
        self._holders.add(holder)
        return holder

    def unpack(self, holder: _Holder) -> Tensor:
        return holder.tensor

    def bytes(self, weights: Iterable[Tensor]) -> int:
        """Of all storages, each once; those of `weights` are not counted."""
        kept = {s._cdata: s.nbytes() for s in (holder.tensor.untyped_storage() for holder in self._holders)}
        return sum(kept.values()) - sum(kept.pop(w.untyped_storage()._cdata, 0) for w in weights)


@attrs.frozen(eq=False)
class _Holder:
    """A tensor that autograd keeps: gone once its graph is."""

    tensor: Tensor


def _as_given(recipe: Recipe, batch: Batch) -> Batch:
    """The batch without what the recipe's data do not give."""
    given, missing = recipe.data.config.provides(), dict[str, Any]()
    for ability, fields in {"captions": ("x", "x_out"), "images": ("y",), "questions": ("question", "answer")}.items():
        missing |= dict.fromkeys(fields) if ability not in given else {}
    for name, field in {"text": "unpaired_x", "images": "unpaired_y"}.items():
        missing |= {field: None} if name not in recipe.unpaired else {}
    return attrs.evolve(batch, **missing)
