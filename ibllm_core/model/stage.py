"""One stage: its players, its procedure, an iteration, what its validations decided, its state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

import attrs
import torch
from torch import Tensor

from ..host.attribution import within
from ..interfaces.batch import Batch
from ..interfaces.loss import CriticLoss, Loss
from ..interfaces.noise import seeded
from ..interfaces.optimisation import EvaluationWeights, Iteration
from ..interfaces.randomness import derive_key
from ..recipe.schema import Recipe, Stage, Validation
from . import build
from .engine import Engine
from .model import Model
from .players import MODEL, Average, Player, make_players, pack_optimizer, set_trainable, unpack_optimizer
from .sharding import clip as clip_gradients
from .shares import Ranks, Shares
from .watch import Present, Watch

#: Names that checkpoints of ibllm 0.1 have for fields of `ValidationState`.
_FORMER = {"waited": "bad_validations", "waited_rate": "plateau_length", "rate": "lr_factor"}


class StageTrainer:
    """Trains one stage, an iteration at a time.

    Args:
        recipe, stage: what to do.
        model, losses: shared by all stages.
        average: of the run, which goes on in this stage.
        ranks: this process among all.

    Attributes:
        stage: with the numbers of the present step.
        course: puts these where they are read.
        statistics: numbers that trained parts keep of the batches that they see; None before the first iteration.
        replays: what captures its iterations and replays them; None where all are eager.
        looked_at: handed each row of figures, to which it may add, before it is kept, and what is not finite where training is about to fail; in every
            process. What it raises ends the stage, a `GoBack` to train on from an earlier step.
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
        self.procedure, self._schedule = build.build_procedure(recipe, stage), build.build_schedule(recipe, stage)
        self.perturbation = build.build_perturbation(recipe, stage)
        self.validation = ValidationState()
        self.step = 0
        used = build.losses_with_terms(recipe, tuple(stage.losses))
        self._trained = [*(f"parts.{name}" for name in stage.train), *(f"losses.{loss}" for loss in used)]
        self.statistics: list[str] | None = None
        self.replays: Replays | None = None
        self.looked_at: Callable[..., None] = lambda figures, trouble="": None
        self.course: Course | None = None
        self._engines: dict[str, Engine] = {}
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self.apply_balance()

    def iterate(self, micro: Sequence[Batch]) -> None:
        """One iteration, as the stage's procedure plays it; then the averaged weights follow, where the model has made a step."""
        batches = self._begin(micro)
        rate = self._schedule.factor(self.step, self.stage.steps) * self.validation.lr_factor
        before = self.played().get(MODEL, 0)
        known = {} if self.statistics is not None else self._versions()
        if self.replays is None:
            self.play(batches, rate)
        else:
            self.replays.play(batches, rate)
        if self.statistics is None:
            self.statistics = [name for name, version in self._versions().items() if version != known[name]]
        if self.played().get(MODEL, 0) > before:
            self.average.follow(self._trained, self.stage.training.ema)
        self.go_to(self.step + 1, self.played())

    def play(self, batches: Sequence[Batch], rate: float | None, present: Present | None = None) -> None:
        """The present iteration on micro-batches on the device; with a `rate` of None the learning rates stay."""
        with self._seeded():
            self.procedure.iterate(PlayedIteration(self, batches, rate, present=present))

    def look(self, micro: Sequence[Batch], watch: Watch) -> None:
        """The present iteration without the optimizers' steps, for who wants to see what it computes; by a procedure without a past."""
        before = self.played()
        try:
            with self._seeded():
                build.build_procedure(self.recipe, self.stage).iterate(PlayedIteration(self, self._begin(micro), watch=watch))
        finally:
            self.go_to(self.step, before)

    def go_to(self, step: int, players: Mapping[str, int]) -> None:
        """The next iteration is `step`, before which each of the `players` has played so often."""
        self.step = step
        for player in self.players:
            player.steps = players[player.name]
        if self.course is not None:
            self.course.turn(self)

    def shares(
        self,
        batches: Sequence[Batch],
        ranks: Ranks,
        key: tuple[int | str, ...] | None = None,
        watch: Watch | None = None,
        present: Present | None = None,
    ) -> Shares:
        """A batch of the present iteration as the micro-batches of this process. Its noise is keyed by the iteration, unless a `key` is given."""
        losses = {name: self.losses[name] for name in build.losses_with_terms(self.recipe, tuple(self.stage.losses))}
        present = present or Present(self.step, self.step if key is None else None)
        key = key or (self.recipe.seed.data, "train", self.stage.name)
        return Shares(self.model, batches, losses, key, present, ranks, self.stage.training.batch, watch)

    def perturbed(self, batches: Sequence[Batch], watch: Watch | None, present: Present | None) -> Sequence[Batch]:
        """Micro-batches on the model's device as the stage's perturbation leaves them."""
        if self.perturbation is None:
            return batches
        found, place = [], f"stages.{self.stage.name}.perturb"
        for batch in batches:
            cycle = next(self.shares([batch], Ranks(), watch=watch, present=present).cycles())
            with within(place), cycle.drawing(place), self.model.precision():
                found.append(self.perturbation.perturbed(cycle))
        return found

    def _begin(self, micro: Sequence[Batch]) -> list[Batch]:
        batches = [batch.to(self.model.device) for batch in micro]
        return [batch.padded(self.model.tokenizers) for batch in batches] if self.model.device.type == "cuda" else batches

    def _seeded(self) -> AbstractContextManager[Any]:
        """For what draws from torch's global generators outside the parts' passes."""
        return seeded(derive_key(self.recipe.seed.data, "global", self.stage.name, self.step, self.ranks.rank), self.model.device)

    def _versions(self) -> dict[str, int]:
        """Number that a trained part keeps beside its parameters → how often it was changed in place."""
        tensors = {
            f"{trained}.{name}": t
            for trained in self.stage.train
            for name, t in self.model.parts.get_submodule(trained).state_dict(keep_vars=True).items()
        }
        # Batch normalisation changes its means in a kernel that no version tells of; its count is told.
        kept = {name: t for name, t in tensors.items() if t.is_floating_point() or name.endswith("num_batches_tracked")}
        return {name: t._version for name, t in kept.items() if not t.requires_grad}

    def engine(self, player: Player) -> Engine:
        """What gives a player's gradients over all processes, which ask for it at the same time."""
        if player.name not in self._engines:
            self._engines[player.name] = Engine(player, self.ranks)
        return self._engines[player.name]

    def played(self) -> dict[str, int]:
        return {player.name: player.steps for player in self.players}

    def record(self, name: str, value: Tensor) -> None:
        """Sums on the device; read at log steps only."""
        self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._counts[name] = self._counts.get(name, 0) + 1

    def record_again(self, recorded: Mapping[str, tuple[Tensor, int]]) -> None:
        """What a replay has recorded, in memory that the next one writes to; by few operations."""
        known = [name for name in recorded if name in self._sums]
        self._sums |= {name: value.clone() for name, (value, _) in recorded.items() if name not in self._sums}
        if known:
            sums = torch._foreach_add([self._sums[name] for name in known], [recorded[name][0] for name in known])
            self._sums |= dict(zip(known, sums, strict=True))
        for name, (_, times) in recorded.items():
            self._counts[name] = self._counts.get(name, 0) + times

    @contextmanager
    def recorded_apart(self) -> Iterator[dict[str, tuple[Tensor, int]]]:
        """Within, what is recorded is not taken in; afterwards it is in the table: sum and times."""
        held, apart = (self._sums, self._counts), dict[str, tuple[Tensor, int]]()
        self._sums, self._counts = {}, {}
        try:
            yield apart
            apart |= {name: (value, self._counts[name]) for name, value in self._sums.items()}
        finally:
            self._sums, self._counts = held

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
            means[f"lr/{player.name}"] = float(player.optimizer.param_groups[0]["lr"])
        return means | (self.course.described(self.step - 1) if self.course is not None else {})

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
        return {"step": self.step, "validation": decided, "players": self.played(), "optimizers": optimizers}, tensors

    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Takes back what `state` gave."""
        # ibllm 0.1 called it knobs.
        self.validation = ValidationState.restored(values["validation"] if "validation" in values else values["knobs"])
        self.go_to(values["step"], values["players"])
        for player in self.players:
            unpack_optimizer(player.optimizer, tensors.get(f"optimizer-{player.name}", {}), values["optimizers"][player.name])
        self.procedure.restore(tensors.get("procedure", {}))
        self.apply_balance()


class Course(Protocol):
    """Knows the recipe at each step of a stage."""

    def turn(self, trainer: StageTrainer) -> None:
        """Whatever moves is as it is at the trainer's present step: its `stage`, the players' weights and rates, the options of parts and losses."""

    def described(self, step: int) -> dict[str, float]:
        """What moves at a step, for the log."""


class Replays(Protocol):
    """Plays iterations once more that it has seen, `replayed` so far."""

    replayed: int

    def play(self, batches: Sequence[Batch], rate: float) -> None:
        """The trainer's present iteration on micro-batches on the device, with a factor on the learning rates."""

    def described(self) -> dict[str, int]:
        """For the stage's record."""


class PlayedIteration(Iteration):
    """An iteration on its micro-batches.

    What is computed is kept from turn to turn where the stage has no micro-batches; with them, every graph would be held at once.

    Args:
        trainer: whose players play.
        batches: micro-batches, on the model's device.
        rate: factor on the learning rates; None leaves them.
        watch: told what is computed; the players then get gradients and make no step, and all shares are in this process.
    """

    def __init__(
        self,
        trainer: StageTrainer,
        batches: Sequence[Batch],
        rate: float | None = 1.0,
        watch: Watch | None = None,
        present: Present | None = None,
    ) -> None:
        super().__init__(trainer.players, trainer.step)
        batches = trainer.perturbed(batches, watch, present)
        self._trainer, self._batches, self._rate, self._watch = trainer, batches, rate, watch
        self._shares = trainer.shares(batches, trainer.ranks if watch is None else Ranks(), watch=watch, present=present)

    def gradients(self, player: Player) -> None:
        trainer, count = self._trainer, len(self._batches)
        engine = trainer.engine(player) if self._watch is None else Engine(player, Ranks())
        player.optimizer.zero_grad(set_to_none=True)
        others = [other for other in self.players if other is not player] if player.name == MODEL else []
        totals: dict[str, Tensor] = {}
        logged: dict[str, Tensor] = {}
        with player.alone(others):
            for number, cycle in enumerate(self._shares.cycles(), 1):
                with engine.micro_batch(last=number == count):
                    with trainer.model.precision():
                        loss, values = engine.loss(cycle)
                    (self._watch or Watch()).backward(player, loss / count)
                share = len(cycle) * trainer.ranks.count / trainer.stage.training.batch
                for name, value in cycle.take_logged().items():
                    logged[name] = logged.get(name, 0) + value * share
                for name, value in values.items():
                    totals[name] = totals.get(name, 0) + value / count
        self._shares.end_turn()
        if player.name == MODEL:  # what the critic saw of the parts, the model goes on with
            trainer.model.reshard()
        if self._watch is None:
            for name, value in totals.items():
                trainer.record(f"loss/{name}" if player.name == MODEL else f"loss/{player.name}/{name}", value)
            for name, value in logged.items():
                trainer.record(name, value)
            clip = trainer.stage.training.clip
            norm = clip_gradients(list(player.parameters.values()), clip or math.inf)
            trainer.record(f"grad_norm/{player.name}", norm.detach())

    def forget(self) -> None:
        self._shares.forget()

    def move(self, player: Player) -> None:
        if self._watch is None:
            if self._rate is not None:
                player.set_rate(self._rate)
            player.optimizer.step()


@attrs.define
class ValidationState:
    """Plain numbers, so that a checkpoint holds them.

    Attributes:
        best: the best value of the watched figure so far.
        best_step: the last step it was reached at; −1 before the first validation.
        bad_validations: validations since it was first reached.
        plateau_length: the same, or since the learning rate was last lowered.
        lr_factor: factor on the learning rate.
        balance: factor on the composite loss's λ.
    """

    best: float | None = None
    best_step: int = -1
    bad_validations: int = 0
    plateau_length: int = 0
    lr_factor: float = 1.0
    balance: float = 1.0

    def update(self, plan: Validation, figures: Mapping[str, float], figure: str, step: int) -> bool:
        """Takes in one validation. True where it is the best so far, or equals it.

        Of equal figures the later weights are kept, for a figure that is 0 (or 1) throughout must not throw training away;
        only a better one counts against `patience`.
        """
        value = figures[figure]
        less = plan.mode == "min" or (plan.mode == "auto" and not plan.figure)
        sign = -1.0 if less else 1.0
        better = math.isfinite(value) and (self.best is None or sign * value > sign * self.best)
        if better or value == self.best:
            self.best, self.best_step = value, step
        if better:
            self.bad_validations, self.plateau_length = 0, 0
        else:
            self.bad_validations += 1
            self.plateau_length += 1
        if plan.plateau is not None and self.plateau_length >= plan.plateau.patience:
            self.lr_factor *= plan.plateau.factor
            self.plateau_length = 0
        if plan.balance is not None:
            lag = figures[plan.balance.text] - figures[plan.balance.image]
            limit = plan.balance.limit
            self.balance = min(limit, max(1 / limit, self.balance * math.exp(plan.balance.rate * lag)))
        return self.best_step == step

    def stops(self, plan: Validation) -> bool:
        """True where the stage's patience is at an end."""
        return plan.patience > 0 and self.bad_validations >= plan.patience

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> ValidationState:
        """From the fields' values by name, or by the names that they had in ibllm 0.1."""
        return cls(**{_FORMER.get(name, name): value for name, value in state.items()})
