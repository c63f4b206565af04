"""What all stages of a run share, and how it is put into a checkpoint and taken out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import UserError
from ..interfaces.metric import Metric
from ..model import build
from ..model.compute import prepare
from ..model.evaluation import Evaluation, evaluate
from ..model.stage import StageTrainer
from ..recipe.schema import Init, Recipe, Stage
from ..runs.directory import RunDirectory
from ..runs.model_folder import WEIGHTS, read_weights
from . import checkpoints
from .distributed import described, join
from .events import Bus
from .feeding import Feeder


class Session:
    """One run while it runs: all that its stages share, built and on its device.

    Args:
        bus: nobody listens but in the first process.
        stopping: asked at every step boundary.
        resume: a run goes on, with the tokenizers that it has saved.

    Attributes:
        unpaired: ``text`` and ``images`` → further datasets, where the recipe names such.
        best: the state of the model (``best-weights``) and its average (``best-average``) at the stage's best validation; empty before it.
        average: name → exponential moving average of a parameter, through all stages and of all parts but the discriminator; empty for none.
        records: one entry a finished stage, for run.json.
        step: iterations done over all stages.
        strict: a figure that is no finite number ends the run; in a rehearsal it is warned of.

    Raises:
        UserError: something cannot be built.
    """

    def __init__(
        self,
        recipe: Recipe,
        directory: RunDirectory,
        bus: Bus | None = None,
        stopping: Callable[[], bool] = lambda: False,
        resume: bool = False,
    ) -> None:
        self.recipe, self.directory, self.bus, self.stopping = recipe, directory, bus or Bus(), stopping
        self.dataset, self.unpaired = build.build_dataset(recipe), build.build_unpaired(recipe)
        texts = [self.dataset, *(other for name, other in self.unpaired.items() if name == "text")]
        self.tokenizers = build.build_tokenizers(recipe, texts, directory.checkpoints if resume else None)
        self.model = build.build_model(recipe, self.tokenizers, self.dataset.image_shape)
        device = prepare(self.model, recipe.compute, described()[2], recorded=resume)
        self.ranks = join(device)
        named = dict.fromkeys(loss for stage in recipe.running() for loss in build.losses_with_terms(recipe, tuple(stage.losses)))
        self.losses = {name: loss.to(device) for name, loss in build.build_losses(recipe, tuple(named), self.model).items()}
        self.ranks.same(t for module in (self.model, *self.losses.values()) for t in module.state_dict().values())
        self.metrics = build.build_metrics(recipe)
        averaged = self.model.named_parameters() if any(stage.training.ema > 0 for stage in recipe.running()) else ()
        self._averaged = {name: p for name, p in averaged if not name.startswith("parts.discriminator.")}
        self.average = {name: p.detach().clone() for name, p in self._averaged.items()}
        self.best: dict[str, Mapping[str, Tensor]] = {}
        self.records: list[dict[str, Any]] = []
        self.step, self.strict = 0, True

    def trainer(self, stage: Stage) -> StageTrainer:
        """What trains a stage, at its beginning."""
        return StageTrainer(self.recipe, stage, self.model, self.losses, self.average, self.ranks)

    def feeder(self, stage: Stage, start: int = 0, whole: bool = False) -> Feeder:
        """A stage's batches from a step on: this process's share, or the shares of all processes (`whole`)."""
        plan, key, (rank, count) = stage.training, (self.recipe.seed.data, stage.name), (self.ranks.rank, self.ranks.count)
        shares = {"micro": plan.accumulate * count} if whole else {"micro": plan.accumulate, "rank": rank, "ranks": count}
        return Feeder(self.dataset, self.model.tokenizers, batch=plan.batch, key=key, unpaired=self.unpaired, start=start, **shares)

    def measure(
        self, split: str, items: int, metrics: Mapping[str, Metric] | None = None, checkpoint: Callable[[], None] = lambda: None
    ) -> tuple[dict[str, float], Evaluation]:
        """Figures of the model as it is on the first items of a split, by the recipe's `metrics` or some; `checkpoint` is called between metrics."""
        recipe, where = self.recipe, (self.model, self.dataset, self.metrics if metrics is None else metrics, split)
        seed, batch, declared = recipe.seed.evaluation, recipe.evaluation.batch, recipe.figures()
        return evaluate(*where, items=items, seed=seed, batch=batch, checkpoint=checkpoint, declared=declared, strict=self.strict)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the model has its averaged weights, where such are kept."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, average in self.average.items():
            parameter = self._averaged[name].data
            held = parameter.clone()
            parameter.copy_(average)
            average.copy_(held)

    def _set_average(self, tensors: Mapping[str, Tensor]) -> None:
        for name, average in self.average.items():
            if name in tensors:
                average.copy_(tensors[name])

    def remember_best(self) -> None:
        """Keeps the model as it is now as the stage's best."""
        for group, tensors in (("best-weights", self.model.state_dict()), ("best-average", self.average)):
            self.best[group] = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def return_to_best(self) -> None:
        """The model and its average take the stage's best state."""
        self.model.load_state_dict(self.best["best-weights"])
        self._set_average(self.best.get("best-average", {}))

    def start_from(self, init: Init | None, parts: tuple[str, ...] = ()) -> None:
        """Takes the weights of another run, if there is one, into the model's parts and their average. Raises `UserError` where they do not fit."""
        if init is None:
            return
        folder, there = Path(init.run), self.model.parts
        if init.weights == "raw":
            found = checkpoints.newest(folder / "checkpoints")
            if found is None:
                raise UserError(f"init.run = {init.run!r}: no whole checkpoint in {folder / 'checkpoints'}")
            weights = found.tensors["weights"]
        else:
            weights = read_weights(folder / "model" / WEIGHTS)
        given = {name.split(".")[1] for name in weights}
        for part in parts or init.parts or tuple(part for part in there if part in given):
            if part not in there or part not in given:
                raise UserError(f"init.run = {init.run!r}: {part} is not in {'that run' if part in there else 'this model'}")
            prefix = f"parts.{part}."
            try:
                there[part].load_state_dict({name.removeprefix(prefix): t for name, t in weights.items() if name.startswith(prefix)})
            except RuntimeError as error:
                raise UserError(f"init.run = {init.run!r}: the weights of {part} do not fit this recipe's {part}: {error}") from error
        self._set_average({name: p.detach() for name, p in self._averaged.items()})

    def save(self, number: int, trainer: StageTrainer | None = None) -> None:
        """Writes a checkpoint to go on from in stage `number`: in its midst where its trainer is given, else at its beginning."""
        if self.ranks.first:
            state, tensors = trainer.state() if trainer is not None else ({"step": 0}, {})
            state = {"global_step": self.step, "records": self.records, "seconds": self.bus.clock.read(), "stage": number, **state}
            groups = {"weights": self.model.state_dict(), **tensors, "average": self.average, **self.best}
            groups["losses"] = {f"{name}.{key}": t for name, loss in self.losses.items() for key, t in loss.state_dict().items()}
            name = f"step-{self.step:07d}" + ("" if trainer is not None else "-end")
            whole = checkpoints.Checkpoint(state, {name: group for name, group in groups.items() if group})
            checkpoints.save(self.directory.checkpoints / name, whole)
            checkpoints.prune(self.directory.checkpoints, self.recipe.training.keep)
        self.ranks.wait()

    def restore(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Takes back what `save` wrote, but for the stage's own state."""
        state, groups = checkpoint.state, checkpoint.tensors
        self.step, self.records = state["global_step"], state["records"]
        self.bus.clock.add(state["seconds"])
        self.model.load_state_dict(groups["weights"])
        # Losses of later stages have their first weights still, and may be others than those of the run that the checkpoint is from.
        running = self.recipe.running()[: state["stage"] + (state["step"] > 0)]
        for name in build.losses_with_terms(self.recipe, tuple(name for stage in running for name in stage.losses)):
            own = {key.removeprefix(f"{name}."): t for key, t in groups.get("losses", {}).items() if key.startswith(f"{name}.")}
            self.losses[name].load_state_dict(own)
        self._set_average(groups.get("average", {}))
        self.best = {name: group for name, group in groups.items() if name.startswith("best-")}
