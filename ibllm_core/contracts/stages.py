"""A stage's iterations on the meta device, played by its procedure: do its losses keep their contract, what do they cost to train?"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from ..errors import UserError
from ..host.attribution import building
from ..interfaces.batch import Batch
from ..model import build
from ..model.cycle import Cycle, Watch
from ..model.model import Model
from ..model.players import Player
from ..model.ranks import Ranks
from ..model.stage import StageTrainer
from ..recipe.schema import Recipe, Stage
from .inputs import Handed, as_given, fabricate
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
    """Plays every kind of iteration that a stage has once, but for the optimizers' steps."""
    with META:
        losses = build.build_losses(recipe, build.losses_with_terms(recipe, tuple(stage.losses)), model)
    trainer = StageTrainer(recipe, stage, model, losses, {}, Ranks())
    size = max(2, stage.training.batch // stage.training.accumulate)
    batch = as_given(recipe, fabricate(model, size, META))
    with building(stage.procedure, f"stages.{stage.name}.procedure", users=True):
        kinds = trainer.kinds()
    for name in (name for kind in kinds for name, played in kind.turns if not played):
        problem = f"the {name} has nothing to minimise where none of its losses is played: one of them needs every = 1"
        raise UserError(f"stages.{stage.name}: {problem}", stage.place)
    walk, counted = _Walk(recipe, stage, meter), 0
    for kind in kinds:  # the first is the one in which everybody plays everything
        trainer.go_to(kind.step, kind.players)
        before = meter.flops
        with meter:
            trainer.look([batch], walk, keep=stage.training.accumulate == 1)
        counted += kind.count * (meter.flops - before)
    return StageRow(
        stage=stage.name,
        steps=stage.steps,
        losses=tuple(stage.losses),
        trained=sum(p.numel() for player in trainer.players for p in player.parameters.values()),
        saved=walk.saved,
        flops=round(counted / sum(kind.count for kind in kinds) / size) if walk.countable else None,
    )


class _Walk(Watch):
    """Checks what losses give and what they leave behind; measures what is kept for backward passes.

    Attributes:
        saved: most bytes kept for one.
        countable: False once the meta device lacked an operation of one.
    """

    def __init__(self, recipe: Recipe, stage: Stage, meter: Meter) -> None:
        self._recipe, self._stage, self._meter = recipe, stage, meter
        self._kept, self._handed = _Kept(), Handed()
        self.saved, self.countable = 0, True

    def started(self, cycle: Cycle) -> None:
        self._handed = Handed()
        for field in attrs.fields(Batch):
            self._handed.add(field.name, getattr(cycle.batch, field.name))

    def computed(self, step: str, part: str, value: Any, inputs: Sequence[Any]) -> None:
        if not inputs:
            self._handed.add(step, value)

    def loss(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        with building(self._recipe.losses[name].component, f"losses.{name}", f"in stage {self._stage.name}: "):
            with torch.autograd.graph.saved_tensors_hooks(self._kept.pack, self._kept.unpack):
                value = compute()
            expect_shape("value", value, "", ())
            self._handed.check()
        return value

    def backward(self, player: Player, loss: Tensor) -> None:
        self.saved = max(self.saved, self._kept.bytes(player.parameters.values()))
        try:
            loss.backward()  # type: ignore[no-untyped-call]
        except NotImplementedError:
            self.countable = False
        except Exception as error:
            problem = f"the backward pass of the {player.name}'s losses: {type(error).__name__}: {error}"
            raise UserError(f"stages.{self._stage.name}: {problem}", self._stage.place) from error


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
