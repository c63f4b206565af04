"""A stage's iterations on the meta device, played by its procedure: do its losses keep their contract, what do they cost to train?"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from ibllm.iterations import kinds_of
from ibllm_core.errors import UserError
from ibllm_core.host.attribution import building
from ibllm_core.model import build
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model
from ibllm_core.model.players import Average, Player
from ibllm_core.model.shares import Ranks
from ibllm_core.model.stage import StageTrainer
from ibllm_core.model.watch import Watch
from ibllm_core.recipe.draft import named_parts
from ibllm_core.recipe.schema import Recipe, Stage

from .inputs import META, Handed, Meter, as_given, expect_shape, fabricate


@attrs.frozen
class StageRow:
    """One stage: what one iteration of it costs.

    Attributes:
        trained: parameters that it trains.
        saved: most bytes kept for a player's backward pass at once, at the stage's batch size (per micro-batch).
        flops: of one item in one iteration: all players' forward and backward passes, multiplications and additions counted apart, averaged over
            iterations where a loss or a player has `every` > 1. Matrix products and convolutions are counted, as everywhere; texts have their
            tokenizer's full length. None where the backward pass has an operation that the meta device lacks.
        unreached: a line for each part or loss of whose parameters it trains some that no loss reaches.
    """

    stage: str
    losses: tuple[str, ...]
    trained: int
    saved: int
    flops: int | None
    unreached: tuple[str, ...] = ()


def walk_stage(recipe: Recipe, model: Model, stage: Stage, meter: Meter) -> StageRow:
    """Plays every kind of iteration that a stage has once, but for the optimizers' steps."""
    _critics_borrow_what_is_frozen(recipe, stage)
    with META:
        losses = build.build_losses(recipe, build.losses_with_terms(recipe, tuple(stage.losses)), model)
    trainer = StageTrainer(recipe, stage, model, losses, Average(), Ranks())
    size = max(2, stage.training.batch // stage.training.accumulate)
    batch = as_given(recipe, fabricate(model, size, META))
    with building(stage.procedure, f"stages.{stage.name}.procedure", users=True):
        kinds = kinds_of(trainer)
    for name in (name for kind in kinds for name, played in kind.turns if not played):
        problem = f"the {name} has nothing to minimise where none of its losses is played: one of them needs every = 1"
        raise UserError(f"stages.{stage.name}: {problem}", stage.place)
    walk, counted = _Walk(recipe, stage, meter), 0
    for kind in kinds:  # the first is the one in which everybody plays everything
        trainer.go_to(kind.step, kind.players)
        before = meter.flops
        with meter:
            trainer.look([batch] * stage.training.accumulate, walk)
        counted += kind.count * (meter.flops - before)
    unreached = _unreached(stage, model, trainer, walk)
    trained = sum(p.numel() for player in trainer.players for p in player.parameters.values())
    flops = round(counted / sum(kind.count for kind in kinds) / size / stage.training.accumulate) if walk.countable else None
    return StageRow(stage.name, tuple(stage.losses), trained, walk.saved, flops, unreached)


def _critics_borrow_what_is_frozen(recipe: Recipe, stage: Stage) -> None:
    """Raises `UserError` where a stage trains a critic and what it borrows: the model's weights would follow the critic's losses, too."""
    for critic in sorted(recipe.critics() & set(stage.parts)):
        for name in named_parts(recipe.parts[critic].config).keys() & recipe.model.shared.keys() & set(stage.parts):
            problem = f"{critic} borrows {name}, which the stage trains with the model; expected {name} frozen wherever {critic} is trained"
            raise UserError(f"stages.{stage.name}.train: {problem}", stage.place)


def _unreached(stage: Stage, model: Model, trainer: StageTrainer, walk: _Walk) -> tuple[str, ...]:
    """What no loss reaches. Raises `UserError` for a part that the stage names, and for a loss that reaches nothing that is trained.

    ``train = "all"`` is whatever its losses reach: parts that none does are left out.
    """
    if not walk.countable:  # then not all gradients are known
        return ()
    trained = {p for player in trainer.players for p in player.parameters.values()}
    for name in (name for name in stage.losses if not walk.reached.get(name, set()) & trained):
        raise walk.reaches_nothing(name)
    owners = {trainer.recipe.place_of(name): model.parts.get_submodule(name) for name in stage.train} | {
        f"losses.{name}": loss for name, loss in trainer.losses.items()
    }
    found = []
    for owner, module in owners.items():
        own = dict(module.named_parameters())
        left = {name: p for name, p in own.items() if p not in set().union(*walk.reached.values())}
        if left and len(left) == len(own) and owner.startswith("model."):
            if not stage.trains_all:
                part = re.sub(r"model\.((extra|shared)\.)?", "", owner)
                what = f"{part} is trained, but no loss of the stage reaches it; expected a loss that does, or {part} left out"
                raise UserError(f"stages.{stage.name}.train: {what}", stage.place)
        elif left:
            count, numbers, shown = (
                len(left),
                sum(p.numel() for p in left.values()),
                ", ".join([*left][:3]) + (", …" if len(left) > 3 else ""),
            )
            some = f"{count} parameter{'s' * (count > 1)} ({numbers:,} number{'s' * (numbers > 1)})"
            found.append(f"stage {stage.name} trains {some} of {owner} that no loss reaches: {shown}")
    return tuple(found)


def _leaves(value: Tensor) -> set[Tensor]:
    """The parameters that the gradient of a value reaches."""
    found, seen, waiting = set(), set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            found |= {node.variable} if hasattr(node, "variable") else set()
            waiting += [before for before, _ in node.next_functions]
    return found


class _Walk(Watch):
    """Checks what losses give and what they leave behind; measures what is kept for backward passes.

    Attributes:
        saved: most bytes kept for one.
        reached: loss → parameters that its gradient reaches.
        countable: False once the meta device lacked an operation of one.
    """

    def __init__(self, recipe: Recipe, stage: Stage, meter: Meter) -> None:
        self._recipe, self._stage, self._meter = recipe, stage, meter
        self._kept: weakref.WeakSet[Callable[[], Tensor]] = weakref.WeakSet()  # an element is gone once its graph is
        self._handed = Handed()
        self.saved, self.countable = 0, True
        self.reached: dict[str, set[Tensor]] = {}

    def started(self, cycle: Cycle) -> None:
        self._handed = Handed(**attrs.asdict(cycle.batch, recurse=False))

    def computed(self, step: str, part: str, value: Any, inputs: Sequence[Any]) -> None:
        if not inputs:
            self._handed.add(step, value)

    def loss(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        with building(self._recipe.losses[name].component, f"losses.{name}", f"in stage {self._stage.name}: "):
            with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda kept: kept()):
                value = compute()
            expect_shape("value", value, "", {})
            self._handed.check()
        if name in self._stage.losses and not value.requires_grad:
            raise self.reaches_nothing(name)
        self.reached.setdefault(name, set()).update(_leaves(value))
        return value

    def reaches_nothing(self, name: str) -> UserError:
        return UserError(f"stages.{self._stage.name}.losses.{name}: it reaches nothing that the stage trains", self._stage.place)

    def _keep(self, tensor: Tensor) -> Callable[[], Tensor]:
        self._kept.add(kept := lambda: tensor)
        return kept

    def backward(self, player: Player, loss: Tensor) -> None:
        storages = (kept().untyped_storage() for kept in self._kept)
        sizes = {storage._cdata: storage.nbytes() for storage in storages}
        for weight in player.parameters.values():
            sizes.pop(weight.untyped_storage()._cdata, None)
        self.saved = max(self.saved, sum(sizes.values()))
        try:
            loss.backward()  # type: ignore[no-untyped-call]
        except NotImplementedError:
            self.countable = False
        except Exception as error:
            problem = f"the backward pass of the {player.name}'s losses: {type(error).__name__}: {error}"
            raise UserError(f"stages.{self._stage.name}: {problem}", self._stage.place) from error
