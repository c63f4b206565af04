"""One stage: its players, its procedure, one iteration, its state."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import attrs
import torch
from torch import Tensor

from ..interfaces.batch import Batch
from ..interfaces.loss import CriticLoss, Loss
from ..interfaces.noise import seeded
from ..interfaces.optimisation import EvaluationWeights
from ..interfaces.randomness import derive_key
from ..recipe.schema import Recipe, Stage
from . import build
from .average import Average
from .cycle import Watch
from .iteration import IterationKind, PlayedIteration, Rehearsal, Turns
from .model import Model
from .optimizer_state import pack_optimizer, unpack_optimizer
from .players import MODEL, make_players, set_trainable
from .ranks import Ranks
from .shares import Shares
from .validation_state import ValidationState


class StageTrainer:
    """Trains one stage, an iteration at a time.

    Args:
        recipe, stage: what to do.
        model, losses: shared by all stages.
        average: of the run, which goes on in this stage.
        ranks: this process among all.

    Attributes:
        statistics: numbers that trained parts keep of the batches that they see; None before the first iteration.
    """

    def __init__(
        self,
        recipe: Recipe,
        stage: Stage,
        model: Model,
        losses: Mapping[str, Loss | CriticLoss],
        average: Average,
        ranks: Ranks,
    ) -> None:
        self.recipe, self.stage, self.model, self.losses, self.average, self.ranks = recipe, stage, model, losses, average, ranks
        set_trainable(model, stage.train)
        self.players = make_players(recipe, stage, model, losses)
        self.procedure = build.build_procedure(recipe, stage)
        self.validation = ValidationState()
        self.step = 0
        self._schedule = build.build_schedule(recipe, stage)
        used = build.losses_with_terms(recipe, tuple(stage.losses))
        self._trained = [*(f"parts.{part}" for part in stage.train), *(f"losses.{loss}" for loss in used)]
        self.statistics: list[str] | None = None
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self.apply_balance()

    def iterate(self, micro: Sequence[Batch]) -> None:
        """One iteration, as the stage's procedure plays it; then the averaged weights follow, where the model has made a step."""
        batches = self._begin(micro)
        rate = self._schedule.factor(self.step, self.stage.steps) * self.validation.lr_factor
        before = self._played().get(MODEL, 0)
        known = {} if self.statistics is not None else self._versions()
        with self._seeded():
            self.procedure.iterate(PlayedIteration(self, batches, rate))
        if self.statistics is None:
            self.statistics = [name for name, version in self._versions().items() if version != known[name]]
        if self._played().get(MODEL, 0) > before:
            self.average.follow(self._trained, self.stage.training.ema)
        self.step += 1

    def look(self, micro: Sequence[Batch], watch: Watch) -> None:
        """The present iteration without the optimizers' steps, for who wants to see what it computes; by a procedure without a past."""
        before = self._played()
        try:
            with self._seeded():
                build.build_procedure(self.recipe, self.stage).iterate(PlayedIteration(self, self._begin(micro), watch=watch))
        finally:
            self.go_to(self.step, before)

    def kinds(self) -> list[IterationKind]:
        """The kinds of iteration that the stage has, the one of its first step first; found out by a rehearsal, in which nothing is computed."""
        procedure, now = build.build_procedure(self.recipe, self.stage), self._played()
        period = math.lcm(procedure.period, *(player.every * term.every for player in self.players for term in player.terms))
        found: dict[Turns, IterationKind] = {}
        self.go_to(self.step, dict.fromkeys(now, 0))
        for step in range(min(period, self.stage.steps)):
            rehearsal, before = Rehearsal(self.players, step), self._played()
            procedure.iterate(rehearsal)
            kind = found.get(rehearsal.turns) or IterationKind(rehearsal.turns, step, before, 0)
            found[rehearsal.turns] = attrs.evolve(kind, count=kind.count + 1)
        self.go_to(self.step, now)
        return list(found.values())

    def go_to(self, step: int, players: Mapping[str, int]) -> None:
        """The next iteration is `step`, before which each of the `players` has played so often."""
        self.step = step
        for player in self.players:
            player.steps = players[player.name]

    def shares(
        self, batches: Sequence[Batch], ranks: Ranks, key: tuple[int | str, ...] | None = None, watch: Watch | None = None
    ) -> Shares:
        """A batch of the present iteration, keyed by it, as the micro-batches of this process."""
        losses = {name: self.losses[name] for name in build.losses_with_terms(self.recipe, tuple(self.stage.losses))}
        key = key or (self.recipe.seed.data, "train", self.stage.name, self.step)
        return Shares(self.model, batches, losses, key, self.step, ranks, self.stage.training.batch, watch)

    def _begin(self, micro: Sequence[Batch]) -> list[Batch]:
        return [batch.to(self.model.device) for batch in micro]

    def _seeded(self) -> AbstractContextManager[Any]:
        """For what draws from torch's global generators outside the parts' passes."""
        return seeded(derive_key(self.recipe.seed.data, "global", self.stage.name, self.step, self.ranks.rank), self.model.device)

    def _versions(self) -> dict[str, int]:
        """Number that a trained part keeps beside its parameters → how often it was changed in place."""
        tensors = {
            f"{part}.{name}": t for part in self.stage.train for name, t in self.model.parts[part].state_dict(keep_vars=True).items()
        }
        return {name: t._version for name, t in tensors.items() if not t.requires_grad and t.is_floating_point()}

    def _played(self) -> dict[str, int]:
        return {player.name: player.steps for player in self.players}

    def record(self, name: str, value: Tensor) -> None:
        """Sums on the device; read at log steps only."""
        self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._counts[name] = self._counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """Means since the last reading. Synchronises the device."""
        names = self.ranks.union(self._sums)  # a loss may log a term in one process alone
        if not names:
            return {}
        nothing = torch.zeros((), device=self.model.device)
        sums = torch.stack([self._sums.get(name, nothing).float() for name in names])
        counts = torch.tensor([float(self._counts.get(name, 0)) for name in names], device=sums.device)
        values, over = self.ranks.total(torch.stack([sums, counts])).tolist()
        means = {name: value / count for name, value, count in zip(names, values, over, strict=True)}
        self._sums, self._counts = {}, {}
        for player in self.players:
            means[f"lr/{player.name}"] = player.optimizer.param_groups[0]["lr"]
        return means

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Within, the model has the weights to be used where an optimizer trains at others (schedule-free methods)."""
        with ExitStack() as stack:
            for player in self.players:
                stack.enter_context(player.evaluation_weights())
            yield

    def use_evaluation_weights(self) -> None:
        """The model keeps the weights to be used: nothing is trained in this stage any more."""
        for player in self.players:
            if isinstance(player.optimizer, EvaluationWeights):
                player.optimizer.eval()

    def apply_balance(self) -> None:
        """Hands the composite the factor on its λ that this stage's validations have led to; other losses have 1, whatever an earlier stage left."""
        plan = self.stage.validate
        balanced = plan.balance.loss if plan is not None and plan.balance is not None else None
        for name, loss in self.losses.items():
            if isinstance(loss, Loss):
                loss.balance = self.validation.balance if name == balanced else 1.0

    def state(self) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """Counters and what validations decided as JSON; optimizer moments and the procedure's state as tensors."""
        tensors: dict[str, dict[str, Tensor]] = {}
        optimizers: dict[str, Any] = {}
        for player in self.players:
            tensors[f"optimizer-{player.name}"], optimizers[player.name] = pack_optimizer(player.optimizer)
        if procedure := dict(self.procedure.state()):
            tensors["procedure"] = procedure
        decided = attrs.asdict(self.validation)
        return {"step": self.step, "validation": decided, "players": self._played(), "optimizers": optimizers}, tensors

    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Takes back what `state` gave."""
        # ibllm 0.1 called it knobs.
        self.validation = ValidationState.restored(values["validation"] if "validation" in values else values["knobs"])
        self.go_to(values["step"], values["players"])
        for player in self.players:
            unpack_optimizer(player.optimizer, tensors.get(f"optimizer-{player.name}", {}), values["optimizers"][player.name])
        self.procedure.restore(tensors.get("procedure", {}))
        self.apply_balance()
