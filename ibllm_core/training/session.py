"""What all stages of a run share, and how it is put into a checkpoint and taken out again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from torch import Tensor

from ..interfaces.dataset import Dataset
from ..interfaces.loss import CriticLoss, Loss
from ..interfaces.metric import Metric
from ..interfaces.tokenizer import Tokenizer
from ..model import build
from ..model.compute import prepare
from ..model.evaluation import Evaluation, evaluate
from ..model.model import Model
from ..model.ranks import Ranks
from ..model.stage import StageTrainer
from ..recipe.schema import Recipe, Stage
from ..runs.directory import RunDirectory
from .average import Average
from .checkpoints import Checkpoint
from .distributed import join
from .events import Bus, Logged
from .feeding import Feeder


@attrs.define(eq=False, kw_only=True)
class Session:
    """One run while it runs.

    Attributes:
        unpaired: ``text`` and ``images`` → further datasets, where the recipe names such.
        bus: nobody listens but in the first process.
        stopping: asked at every step boundary.
        best: the state of the model (``weights``) and its ``average`` at the stage's best validation; empty before it.
        records: one entry a finished stage, for run.json.
        step: iterations done over all stages.
        seconds: what took how long, without the time of listeners.
    """

    recipe: Recipe
    directory: RunDirectory
    dataset: Dataset
    unpaired: Mapping[str, Dataset]
    tokenizers: Mapping[str, Tokenizer]
    model: Model
    losses: Mapping[str, Loss | CriticLoss]
    metrics: Mapping[str, Metric]
    average: Average
    ranks: Ranks
    bus: Bus
    stopping: Callable[[], bool]
    best: dict[str, dict[str, Tensor]] = attrs.field(factory=dict)
    records: list[dict[str, Any]] = attrs.field(factory=list)
    step: int = 0
    seconds: dict[str, float] = attrs.field(factory=dict)
    _clock: tuple[str, float] | None = None

    def trainer(self, stage: Stage) -> StageTrainer:
        """What trains a stage, at its beginning."""
        return StageTrainer(self.recipe, stage, self.model, self.losses, self.average.tensors, self.ranks)

    def feeder(self, stage: Stage, start: int = 0, whole: bool = False) -> Feeder:
        """A stage's batches from a step on: this process's share, or the shares of all processes (`whole`)."""
        plan, key, (rank, count) = stage.training, (self.recipe.seed.data, stage.name), (self.ranks.rank, self.ranks.count)
        shares = {"micro": plan.accumulate * count} if whole else {"micro": plan.accumulate, "rank": rank, "ranks": count}
        return Feeder(self.dataset, self.model.tokenizers, batch=plan.batch, key=key, unpaired=self.unpaired, start=start, **shares)

    def log(self, kind: str, stage: Stage | None, step: int, figures: Mapping[str, float]) -> None:
        """Emits a row of figures; `stage` is None for the run's result."""
        self.bus.emit(Logged(kind, stage.name if stage else "end", step, self.step, figures))

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Within, time counts as spent on `what`, but for the time of listeners."""
        self._clock = what, time.perf_counter() - self.bus.total()
        try:
            yield
        finally:
            self.seconds, self._clock = self._spent(), None

    def _spent(self) -> dict[str, float]:
        if self._clock is None:
            return self.seconds
        what, since = self._clock
        return self.seconds | {what: self.seconds.get(what, 0.0) + time.perf_counter() - self.bus.total() - since}

    def timings(self) -> dict[str, float]:
        """What took how long so far, listeners under their own keys."""
        seconds = self._spent()
        return seconds | {name: seconds.get(name, 0.0) + spent for name, spent in self.bus.seconds.items()}

    def measure(
        self, split: str, items: int, metrics: Mapping[str, Metric] | None = None, checkpoint: Callable[[], None] | None = None
    ) -> tuple[dict[str, float], Evaluation]:
        """Figures of the model as it is on the first items of a split, by the recipe's `metrics` or some; `checkpoint` is called between batches."""
        recipe, chosen = self.recipe, self.metrics if metrics is None else metrics
        seed, batch, declared = recipe.seed.evaluation, recipe.evaluation.batch, recipe.figures()
        where = (self.model, self.dataset, chosen, split)
        return evaluate(*where, items=items, seed=seed, batch=batch, checkpoint=checkpoint, declared=declared)

    def remember_best(self) -> None:
        """Keeps the model as it is now as the stage's best."""
        for group, tensors in (("weights", self.model.state_dict()), ("average", self.average.tensors)):
            self.best[group] = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def return_to_best(self) -> None:
        """The model and its average take the stage's best state."""
        self.model.load_state_dict(self.best["weights"])
        self.average.load(self.best["average"])

    def checkpoint(self, state: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]) -> Checkpoint:
        """Everything that a restart needs, beside the stage's own `state` and `tensors`."""
        shared = {"global_step": self.step, "records": self.records, "seconds": self.timings()}
        groups: dict[str, Mapping[str, Tensor]] = {"weights": self.model.state_dict(), **tensors, "average": self.average.tensors}
        groups["losses"] = {f"{name}.{key}": t for name, loss in self.losses.items() for key, t in loss.state_dict().items()}
        groups |= {f"best-{name}": group for name, group in self.best.items()}
        return Checkpoint({**shared, **state}, {name: group for name, group in groups.items() if group})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes back what `checkpoint` gave."""
        state, groups = checkpoint.state, checkpoint.tensors
        self.step, self.records, self.seconds = state["global_step"], state["records"], state["seconds"]
        self.model.load_state_dict(dict(groups["weights"]))
        # Losses of later stages have their first weights still, and may be others than those of the run that the checkpoint is from.
        running = self.recipe.running()[: state["stage"] + (state["step"] > 0)]
        for name in build.losses_with_terms(self.recipe, tuple(name for stage in running for name in stage.losses)):
            own = {key.removeprefix(f"{name}."): t for key, t in groups.get("losses", {}).items() if key.startswith(f"{name}.")}
            self.losses[name].load_state_dict(own)
        self.average.load(groups.get("average", {}))
        if "best-weights" in groups:
            for name in ("weights", "average"):
                self.best[name] = {key: t.to(self.model.device) for key, t in groups.get(f"best-{name}", {}).items()}


def open_session(
    recipe: Recipe, directory: RunDirectory, bus: Bus | None = None, stopping: Callable[[], bool] = lambda: False, resume: bool = False
) -> Session:
    """Builds everything that a run needs, on its device. Raises `UserError` where something cannot be built."""
    # Saturated softmaxes fill gradients and moments with subnormal numbers, on which CPUs are many times slower; threads inherit
    # the setting when they are made, so it comes before the first operation that makes them.
    torch.set_flush_denormal(True)
    dataset, unpaired = build.build_dataset(recipe), build.build_unpaired(recipe)
    texts = [dataset, *(other for name, other in unpaired.items() if name == "text")]
    tokenizers = build.build_tokenizers(recipe, texts, directory.checkpoints if resume else None)
    model = build.build_model(recipe, tokenizers, dataset.image_shape)
    device = prepare(model, recipe.compute)
    ranks = join(device)
    named = dict.fromkeys(loss for stage in recipe.running() for loss in build.losses_with_terms(recipe, tuple(stage.losses)))
    losses = {name: loss.to(device) for name, loss in build.build_losses(recipe, tuple(named), model).items()}
    ranks.same([*model.state_dict().values(), *(t for loss in losses.values() for t in loss.state_dict().values())])
    return Session(
        recipe=recipe,
        directory=directory,
        dataset=dataset,
        unpaired=unpaired,
        tokenizers=tokenizers,
        model=model,
        losses=losses,
        metrics=build.build_metrics(recipe),
        average=Average(model, any(stage.training.ema > 0 for stage in recipe.running())),
        ranks=ranks,
        bus=bus or Bus(),
        stopping=stopping,
    )
