"""What all stages of a run share, and how it is put into a checkpoint and taken out again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import Module

from ..errors import Notice, UserError
from ..host.attribution import explained
from ..interfaces.dataset import Dataset
from ..interfaces.image import Discriminator
from ..interfaces.loss import CriticLoss
from ..interfaces.noise import SINGLE
from ..interfaces.reporting import Metric
from ..model import build
from ..model.compute import prepare
from ..model.evaluation import Evaluation, evaluate
from ..model.players import MODEL, Average
from ..model.sharding import local, sharded_as
from ..model.stage import StageTrainer
from ..recipe.checks import unshared
from ..recipe.schema import Init, Recipe, Stage
from ..runs.directory import RunDirectory
from ..runs.model_folder import WEIGHTS, not_finite, of, read_weights
from . import checkpoints
from .distributed import described, join
from .events import Bus
from .feeding import Draws, Feeder, worker_count


class Session:
    """One run while it runs: all that its stages share, built and on its device.

    Args:
        bus: nobody listens but in the first process.
        stopping: asked at every step boundary.
        resume: a run goes on, with the tokenizers that it has saved.

    Attributes:
        unpaired: ``text`` and ``images`` → further datasets, where the recipe names such.
        best: what the stages share (`shared`) at the stage's best validation, its groups called ``best-GROUP``; empty before it.
        modules: ``parts.NAME`` and ``losses.NAME`` → what has weights.
        average: of all of them but the critic's; of nothing where no stage wants one.
        records: one entry a finished stage, for run.json.
        notices: what was told (`tell`).
        workers: processes that make batches.
        step: iterations done over all stages.
        strict: a figure that is no finite number ends the run; in a rehearsal it is warned of.
        gather: makes a model that lies in shards whole again, before one process alone uses it.
        moved: stage → what its batches are made of at each draw (`Draws`); as a rule what they always are.

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
        self.dataset, self.unpaired = build.build_dataset(recipe), {name: build.build_dataset(recipe, name) for name in recipe.unpaired}
        texts = [self.dataset, *(other for name, other in self.unpaired.items() if name == "text")]
        saved = directory.checkpoints if resume and checkpoints.all_in(directory.checkpoints) else None
        self.tokenizers = build.build_tokenizers(recipe, texts, saved)
        self.model = build.build_model(recipe, self.tokenizers, self.dataset.image_shape)
        device = prepare(self.model, recipe.compute, described()[2], recorded=resume)
        self.ranks = join(device)
        for stage in recipe.running():
            for what, expected in unshared(recipe, stage, self.ranks.count):
                raise UserError(f"stages.{stage.name}: {what}; expected {expected}", stage.place)
        named = dict.fromkeys(loss for stage in recipe.running() for loss in build.losses_with_terms(recipe, tuple(stage.losses)))
        self.losses = {name: loss.to(device) for name, loss in build.build_losses(recipe, tuple(named), self.model).items()}
        self.ranks.same(t for module in (self.model, *self.losses.values()) for t in module.state_dict().values())
        self.metrics = build.build_metrics(recipe)
        self.modules: dict[str, Module] = {f"parts.{name}": part for name, part in self.model.parts.items()}
        self.modules |= {f"losses.{name}": loss for name, loss in self.losses.items()}
        critics = {owner for owner, module in self.modules.items() if isinstance(module, Discriminator | CriticLoss)}
        averaged = {} if all(stage.training.ema == 0 for stage in recipe.running()) else self.modules
        self._averaged = [owner for owner in averaged if owner not in critics]
        self.average = self.averages()
        self.best: dict[str, Mapping[str, Tensor]] = {}
        self.records: list[dict[str, Any]] = []
        self.notices: list[str] = list(directory.info().get("notices", [])) if resume else []
        if recipe.compute.device.partition(":")[0] not in ("auto", device.type):
            self.tell(f"{directory.path} was made for the device {recipe.compute.device}, which is not here; {device} is used")
        if device.type in SINGLE:
            self.tell(f"the device {device} has no float64: noise is made of 24 bits and is not that of other devices to the last digit")
        self.workers = worker_count(recipe.compute.workers, device)
        self.step, self.strict = 0, True
        self.gather: Callable[[], None] = lambda: None
        self.moved: Callable[[Stage], Callable[[Dataset, int, str], Dataset]] = lambda stage: lambda dataset, *_: dataset

    def averages(self) -> Average:
        """New averages of the present weights, with counts of their own for what may be trained alone."""
        modules = {owner: self.modules[owner] for owner in self._averaged}
        for part in (part for part in self.model.parts if f"parts.{part}" in modules):
            alone = [f"{part}.{name}" for name in self.recipe.parts[part].config.trainable()]
            modules |= {f"parts.{name}": self.model.parts.get_submodule(name) for name in alone}
        return Average(modules)

    def _load(self, owner: str, tensors: Mapping[str, Tensor]) -> None:
        self.model.reshard()
        now = self.modules[owner].state_dict()
        self.modules[owner].load_state_dict({name: sharded_as(t, now.get(name, t)) for name, t in tensors.items()})

    def trainer(self, stage: Stage) -> StageTrainer:
        """What trains a stage, at its beginning."""
        return StageTrainer(self.recipe, stage, self.model, self.losses, self.average, self.ranks)

    def feeder(self, stage: Stage, start: int = 0, whole: bool = False) -> Feeder:
        """A stage's batches from a step on: this process's share, or the shares of all processes (`whole`)."""
        plan, key, (rank, count) = stage.training, (self.recipe.seed.data, stage.name), (self.ranks.rank, self.ranks.count)
        how: dict[str, Any] = {"micro": plan.accumulate * count} if whole else {"micro": plan.accumulate, "rank": rank, "ranks": count}
        how |= {"unpaired": self.unpaired, "explain": partial(explained, recipe=self.recipe), "padded": self.model.device.type == "cuda"}
        how |= {"at": self.moved(stage)}
        draws = Draws(self.dataset, self.model.tokenizers, batch=plan.batch, key=key, **how)
        return Feeder(draws, start, self.workers, self.model.device, self.tell)

    def measure(
        self, split: str, items: int, metrics: Mapping[str, Metric] | None = None, checkpoint: Callable[[], None] = lambda: None
    ) -> tuple[dict[str, float], Evaluation]:
        """Figures of the model as it is on the first items of a split, by the recipe's `metrics` or some; `checkpoint` is called between metrics."""
        recipe, where = self.recipe, (self.model, self.dataset, self.metrics if metrics is None else metrics, split)
        seed, batch, declared = recipe.seed.evaluation, recipe.evaluation.batch, recipe.figures()
        return evaluate(*where, items=items, seed=seed, batch=batch, checkpoint=checkpoint, declared=declared, strict=self.strict)

    def shared(self) -> dict[str, Mapping[str, Tensor]]:
        """What goes from stage to stage, by group: the state of parts and losses (``weights``), and their average (``average``)."""
        self.model.reshard()
        weights = {f"{owner}.{name}": t for owner, module in self.modules.items() for name, t in module.state_dict().items()}
        return {"weights": weights, "average": self.average.state()}

    def take(self, groups: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any] | None = None) -> None:
        """Takes back what `shared` gave; of a checkpoint (by its `state`) the losses of the stages so far. Raises `UserError` where something does not fit.

        Those of later stages have their first weights still, and may be others than those of the run that the checkpoint is from.
        """
        running = self.recipe.running()[: None if state is None else state["stage"] + (state["step"] > 0)]
        used = build.losses_with_terms(self.recipe, tuple(name for stage in running for name in stage.losses))
        try:
            for owner in (*(f"parts.{name}" for name in self.model.parts), *(f"losses.{name}" for name in used)):
                self._load(owner, of(owner, groups["weights"]))
            # In ibllm 0.1 the average began anew with every stage, and checkpoints do not say how many steps it has followed.
            self.average.restore(groups.get("average", {}), (state or {}).get("players", {}).get(MODEL, 0))
        except RuntimeError as error:
            raise UserError(
                f"what was saved of {owner} does not fit what is built now (run.json has the versions that wrote it): {error}"
            ) from error

    def remember_best(self) -> None:
        """Keeps what the stages share, as it is now, as the stage's best."""
        shared = self.shared().items()
        self.best = {f"best-{group}": {name: t.detach().clone() for name, t in tensors.items()} for group, tensors in shared}

    def return_to_best(self) -> None:
        """Model, losses and average take the stage's best state."""
        now = self.shared()
        self.take({group: {**now[group], **self.best.get(f"best-{group}", {})} for group in now})

    def start_from(self, init: Init | None, parts: Mapping[str, str] | None = None) -> None:
        """Takes the weights of another run, if there is one, into the model's parts and, where it is not for some parts only, into the losses.

        `parts` says of which part of the run each takes them; by default each of its own, those that `init` names or all that both have.

        Their averages begin anew. Raises `UserError` where the weights do not fit or are no numbers.
        """
        if init is None:
            return
        what, some, weights = f"init.run = {init.run!r}", parts or {part: part for part in init.parts}, self._weights_of(init)
        given = {".".join(name.split(".")[:2]) for name in weights}
        every = [owner for owner in self.modules if owner in given or owner.startswith("losses.")]
        wanted = {f"parts.{part}": f"parts.{source}" for part, source in some.items()} or {owner: owner for owner in every}
        for owner, source in wanted.items():
            part, own = owner.removeprefix("parts."), of(source, weights)
            if part != owner and (owner not in self.modules or not own):
                raise UserError(
                    f"{what}: {source.removeprefix('parts.')} is not in {'that run' if owner in self.modules else 'this model'}"
                )
            try:
                self._load(owner, own)
                if steps := self.average.restart(owner):
                    self.tell(f"{what}: the average of {part}, over {steps} steps, begins anew at the weights that it is started from")
                if words := self._other_words(init, part):
                    self.tell(
                        f"{what}: {part} has learned other words than the tokenizer {words} has here: its embeddings belong to others"
                    )
            except RuntimeError as error:
                if part != owner:
                    raise UserError(f"{what}: the weights of {part} do not fit this recipe's {part}: {error}") from error
                self.tell(f"{what}: it has no weights that fit {owner}, whose own parameters stay as they are")
        if flaws := self.flaws(self.shared()):
            raise UserError(f"{what}: {flaws}")

    def _other_words(self, init: Init, part: str) -> str:
        """The name of a text part's tokenizer where the run that it is started from has one of that name with other words; else empty."""
        for name, tokenizer in self.tokenizers.items() if part in self.model.tokenizers else ():
            kept = Path(init.run) / ("checkpoints" if init.weights == "raw" else "model") / f"tokenizer-{name}.json"
            if tokenizer is self.model.tokenizers[part] and kept.is_file() and kept.read_text(encoding="utf-8") != tokenizer.state():
                return name
        return ""

    def _weights_of(self, init: Init) -> Mapping[str, Tensor]:
        """The weights of another run's parts and losses."""
        folder = Path(init.run)
        if init.weights != "raw":
            return read_weights(folder / "model" / WEIGHTS)
        found, passed = checkpoints.newest(folder / "checkpoints", lambda groups: self.flaws({"weights": groups["weights"]}))
        if found is None:
            raise UserError(f"init.run = {init.run!r}: no whole checkpoint in {folder / 'checkpoints'}{_listed(passed)}")
        if passed:
            self.tell(f"init.run = {init.run!r}: its newest checkpoint is passed over{_listed(passed)}")
        return found.tensors["weights"]

    def flaws(self, groups: Mapping[str, Mapping[str, Tensor]]) -> str:
        """Which tensors hold what is no finite number, in words; empty for none. Buffers may be infinite, as a mask is."""
        infinite = {f"{owner}.{name}" for owner, module in self.modules.items() for name, _ in module.named_buffers()}
        mine = {group: {name: local(t) for name, t in tensors.items()} for group, tensors in groups.items()}
        found = [f"{group} {name}" for group, tensors in mine.items() for name in not_finite(tensors, infinite)]
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        return f"not finite: {found[0]}{more}" if found else ""

    def tell(self, text: str) -> None:
        """Says what a user should know and nothing stops for: once on the terminal, and in run.json (``notices``)."""
        if self.ranks.first:
            self.notices = [*(notice for notice in self.notices if notice != text), text]
            warnings.warn(Notice(text), stacklevel=2)

    def groups(self, trainer: StageTrainer | None = None) -> dict[str, Mapping[str, Tensor]]:
        """The tensors of a checkpoint by group: what stages share, the stage's best so far, and what its trainer keeps."""
        found = self.shared() | self.best | (trainer.state()[1] if trainer is not None else {})
        return {name: tensors for name, tensors in found.items() if tensors}

    def save(self, number: int, trainer: StageTrainer | None = None, alone: bool = False) -> None:
        """Writes a checkpoint to go on from in stage `number`: in its midst where its trainer is given, else at its beginning.

        All processes come together for it, unless the first one is `alone`.
        """
        if self.ranks.first or self.model.sharded:
            state = trainer.state()[0] if trainer is not None else {"step": 0}
            state = {"global_step": self.step, "records": self.records, "seconds": self.bus.clock.read(), "stage": number, **state}
            name = f"step-{self.step:07d}" + ("" if trainer is not None else "-end")
            saved = checkpoints.Checkpoint(state, self.groups(trainer))
            checkpoints.save(self.directory.checkpoints / name, saved, self.ranks if self.model.sharded else None)
        if self.ranks.first:
            checkpoints.prune(self.directory.checkpoints, self.recipe.training.keep)
        if not alone:
            self.ranks.wait()

    def go_on(self) -> checkpoints.Checkpoint | None:
        """Takes back, but for the stage's own state, the newest checkpoint that is whole and holds numbers; None where there is none yet.

        Raises:
            UserError: there are or were checkpoints, and none can be gone on from. Nothing has been changed.
        """
        folder, (found, passed) = self.directory.checkpoints, checkpoints.newest(self.directory.checkpoints, self.flaws)
        self.ranks.wait()
        if found is None and (passed or self.directory.info().get("stages")):
            why = _listed(passed) or "; those of the stages that it has ended are gone"
            again = f"put a whole one back, or start anew: ibllm run {self.directory.recipe} --run-dir DIR"
            raise UserError(f"{folder}: no checkpoint to go on from{why}. Nothing was changed; {again}")
        if found is None:
            self.tell(f"{folder}: no checkpoint yet; the run starts from its first step")
            return None
        self.restore(found)
        if passed:
            self.tell(f"going on from step {self.step}: newer checkpoints are passed over, and kept as damaged-step-…{_listed(passed)}")
            checkpoints.set_aside(folder, passed)
        return found

    def restore(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Takes back what `save` wrote, but for the stage's own state."""
        state, groups = checkpoint.state, checkpoint.tensors
        self.step, self.records = state["global_step"], state["records"]
        self.bus.clock.add(state["seconds"])
        self.take(groups, state)
        self.best = {name: group for name, group in groups.items() if name.startswith("best-")}


def _listed(passed: Mapping[str, str]) -> str:
    return "".join(f"; {name}: {reason}" for name, reason in passed.items())
