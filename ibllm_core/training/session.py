"""What all stages of a run share, and how it is put into a checkpoint and taken out again."""

from __future__ import annotations

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
from ..interfaces.tracker import Tracker
from ..model import build
from ..model.compute import prepare
from ..model.model import Model
from ..model.ranks import Ranks
from ..recipe.schema import Recipe
from ..runs.directory import MetricsFile, RunDirectory
from .checkpoints import Checkpoint
from .distributed import join
from .lifecycle import Hooks
from .observer import Observer


@attrs.define(eq=False, kw_only=True)
class Session:
    """One run while it runs.

    Attributes:
        unpaired: ``text`` and ``images`` → further datasets, where the recipe names such.
        average: parameter name → averaged weight; empty where the recipe asks for none.
        best: the state of the model (and its average) at the stage's best validation; empty before it.
        records: one entry a finished stage, for run.json.
        step: iterations done over all stages.
        hooks: the lifecycle hooks of the recipe's plugins; none but in the first process.
        seconds: what took how long, the hooks among it.
        stopping: asked at every step boundary.
    """

    recipe: Recipe
    directory: RunDirectory
    dataset: Dataset
    unpaired: Mapping[str, Dataset]
    tokenizers: Mapping[str, Tokenizer]
    model: Model
    losses: Mapping[str, Loss | CriticLoss]
    metrics: Mapping[str, Metric]
    ranks: Ranks
    observer: Observer
    average: dict[str, Tensor]
    stopping: Callable[[], bool]
    hooks: Hooks = attrs.field(factory=Hooks)
    trackers: Mapping[str, Tracker] = attrs.field(factory=dict)
    log: MetricsFile | None = None
    best: dict[str, dict[str, Tensor]] = attrs.field(factory=dict)
    records: list[dict[str, Any]] = attrs.field(factory=list)
    step: int = 0
    seconds: dict[str, float] = attrs.field(factory=dict)

    def tell(self, hook: str, **arguments: Any) -> None:
        """Calls a lifecycle hook with what most of them are handed, and `arguments`."""
        self.hooks.call(hook, recipe=self.recipe, model=self.model, run_directory=self.directory.path, **arguments)

    def timings(self) -> dict[str, float]:
        """`seconds`, without what hooks took in the stages that called them, and with it under the plugins' names."""
        return self.seconds | {name: self.seconds.get(name, 0.0) + seconds for name, seconds in self.hooks.seconds.items()}

    def write(self, kind: str, stage: str, values: Mapping[str, float]) -> None:
        """A line into metrics.jsonl and to every tracker."""
        import time

        if self.log is not None:
            self.log.write(step=self.step, stage=stage, time=time.time(), kind=kind, **values)
        for tracker in self.trackers.values():
            tracker.scalars({f"{stage}/{kind}/{name}": value for name, value in values.items()}, self.step)

    def attribution(self) -> str | None:
        """The credits that all the data ask for, each once."""
        credits = [dataset.attribution() for dataset in (self.dataset, *self.unpaired.values())]
        return "\n\n".join(dict.fromkeys(credit for credit in credits if credit)) or None

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the model has its averaged weights."""
        named = dict(self.model.named_parameters())
        pairs = [(named[name], average) for name, average in self.average.items()]

        def swap() -> None:
            for parameter, average in pairs:
                held = parameter.data.clone()
                parameter.data.copy_(average)
                average.copy_(held)

        swap()
        try:
            yield
        finally:
            swap()

    def weights(self) -> dict[str, Tensor]:
        """The weights that are validated, kept and reported."""
        return {name: self.average.get(name, tensor) for name, tensor in self.model.state_dict().items()}

    def remember_best(self) -> None:
        state = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.best = {"weights": state, "average": {name: tensor.clone() for name, tensor in self.average.items()}}

    def return_to_best(self) -> None:
        self.model.load_state_dict(self.best["weights"])
        for name, tensor in self.best["average"].items():
            self.average[name].copy_(tensor)

    def checkpoint(self, state: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]) -> Checkpoint:
        """Everything that a restart needs, beside the stage's own `state` and `tensors`."""
        shared: dict[str, Any] = {"global_step": self.step, "records": self.records, "seconds": self.timings()}
        groups: dict[str, Mapping[str, Tensor]] = {"weights": self.model.state_dict(), **tensors}
        groups["losses"] = {f"{name}.{key}": t for name, loss in self.losses.items() for key, t in loss.state_dict().items()}
        if self.average:
            groups["average"] = self.average
        for name, group in self.best.items():
            groups[f"best-{name}"] = group
        return Checkpoint({**shared, **state}, {name: group for name, group in groups.items() if group})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes back what `checkpoint` gave."""
        state, groups = checkpoint.state, checkpoint.tensors
        self.step, self.records, self.seconds = state["global_step"], state["records"], state["seconds"]
        self.model.load_state_dict(dict(groups["weights"]))
        # Losses of later stages have their first weights still, and may be others than those of the run that the checkpoint is from.
        running = self.recipe.running()[: state["stage"] + (state["step"] > 0)]
        seen = build.losses_with_terms(self.recipe, tuple(name for stage in running for name in stage.losses))
        for name, loss in ((name, self.losses[name]) for name in seen):
            own = {key.removeprefix(f"{name}."): t for key, t in groups.get("losses", {}).items() if key.startswith(f"{name}.")}
            loss.load_state_dict(own)
        for name, tensor in groups.get("average", {}).items():
            self.average[name].copy_(tensor)
        device = self.model.device
        best = {name: groups[f"best-{name}"] for name in ("weights", "average") if f"best-{name}" in groups}
        if best:
            self.best = {"weights": {}, "average": {}} | {n: {k: t.to(device) for k, t in group.items()} for n, group in best.items()}


def open_session(
    recipe: Recipe, directory: RunDirectory, observer: Observer, stopping: Callable[[], bool], resume: bool, hooks: Hooks | None = None
) -> Session:
    """Builds everything that a run needs, on its device."""
    # Saturated softmaxes fill gradients and moments with subnormal numbers, on which CPUs are many times slower; threads inherit
    # the setting when they are made, so it comes before the first operation that makes them.
    torch.set_flush_denormal(True)
    dataset, unpaired = build.build_dataset(recipe), build.build_unpaired(recipe)
    saved = directory.checkpoints if resume else None
    texts = [dataset, *(other for name, other in unpaired.items() if name == "text")]
    tokenizers = build.build_tokenizers(recipe, texts, saved)
    model = build.build_model(recipe, tokenizers, dataset.image_shape)
    device = prepare(model, recipe.compute)
    ranks = join(device)
    named = dict.fromkeys(loss for stage in recipe.running() for loss in build.losses_with_terms(recipe, tuple(stage.losses)))
    losses = {name: loss.to(device) for name, loss in build.build_losses(recipe, tuple(named), model).items()}
    ranks.same([*model.state_dict().values(), *(t for loss in losses.values() for t in loss.state_dict().values())])
    averages = any(stage.training.ema > 0 for stage in recipe.running())
    average = {name: p.detach().clone() for name, p in model.named_parameters() if averages and not name.startswith("parts.discriminator.")}
    return Session(
        recipe=recipe,
        directory=directory,
        dataset=dataset,
        unpaired=unpaired,
        tokenizers=tokenizers,
        model=model,
        losses=losses,
        metrics=build.build_metrics(recipe),
        ranks=ranks,
        observer=observer if ranks.first else Observer(),
        average=average,
        stopping=stopping,
        hooks=hooks or Hooks(),
    )
