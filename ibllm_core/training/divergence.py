"""A loss is no number any more: who gave the first one? Looked for afterwards, so that a run that goes well pays nothing."""

from __future__ import annotations

import re
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import attrs
import torch
from torch import Tensor

from ..host.attribution import Culprit, components_in
from ..interfaces.batch import Batch
from ..interfaces.latent import Latent
from ..interfaces.randomness import derive_key
from ..model import build
from ..model.cycle import Cycle
from ..model.players import MODEL
from ..model.stage import StageTrainer
from ..recipe.schema import Stage
from . import checkpoints as checkpoints
from .feeding import Feeder
from .session import Session

#: What a cycle keeps → the part that gives it.
_GIVES = {
    "z_x": "text_encoder",
    "noise": "image_decoder",
    "y_fake": "image_decoder",
    "z_y": "image_encoder",
    "z_images": "image_encoder",
    "z_fake": "image_encoder",
    "image_nll": "image_decoder",
    "reconstruction": "image_tokenizer",
    "text_nll": "text_decoder",
    "cycle_nll": "text_decoder",
    "answer_nll": "text_decoder",
}
#: Seconds that looking may take.
_PATIENCE = 60.0


def first_wrong(session: Session, stage: Stage, trainer: StageTrainer) -> str:
    """Names the component whose output is the first that is not finite; empty where each gives numbers, and training itself diverged.

    Walks the batches since the last log line, with the present weights if they are numbers, else with those of the newest checkpoint
    that are, else with the first ones. The session's weights are not to be used afterwards.
    """
    try:
        return _first_wrong(session, stage, trainer)
    except Exception:  # looking for the fault must not hide that there is one
        return ""


def _first_wrong(session: Session, stage: Stage, trainer: StageTrainer) -> str:
    origin = _weights(session)
    window = trainer.step % stage.training.log_every or stage.training.log_every
    started = time.perf_counter()
    for step, batch in _batches(session, stage, range(max(0, trainer.step - window), trainer.step)):
        with warnings.catch_warnings(record=True) as caught, torch.autograd.detect_anomaly(check_nan=True):
            found = _walk(session, stage, trainer, step, batch, caught)
        if found is not None:
            culprit, what = found
            return f"The first that is not: {culprit}: {what} in step {step + 1}'s batch, with {origin}; {culprit.remedy}"
        if time.perf_counter() - started > _PATIENCE:
            break
    return ""


def _weights(session: Session) -> str:
    """Puts weights that are numbers into model and losses; says which."""
    if all(_finite(t) for module in (session.model, *session.losses.values()) for t in module.state_dict().values()):
        return "the weights as they are"
    for path in checkpoints.all_in(session.directory.checkpoints):
        found = checkpoints.load(path)
        if found is not None and all(map(_finite, found.tensors["weights"].values())):
            session.model.load_state_dict(dict(found.tensors["weights"]))
            return f"the weights of {path.name}"
    with torch.device("cpu"):
        model = build.build_model(session.recipe, session.tokenizers, session.dataset.image_shape)
        losses = build.build_losses(session.recipe, tuple(session.losses), model)
    session.model.load_state_dict(model.state_dict())
    for name, loss in losses.items():
        session.losses[name].load_state_dict(loss.state_dict())
    return "the first weights"


def _batches(session: Session, stage: Stage, steps: Iterable[int]) -> Iterator[tuple[int, Batch]]:
    """What the steps' iterations saw, of all processes, in this process's portions."""
    portions = stage.training.accumulate * session.ranks.count
    feeder = Feeder(
        session.dataset,
        session.model.tokenizers,
        batch=stage.training.batch,
        key=(session.recipe.seed.data, stage.name),
        micro=portions,
        unpaired=session.unpaired,
    )
    with closing(feeder):
        for step in steps:
            for batch in feeder.make(step):
                yield step, batch.to(session.model.device)


def _walk(
    session: Session, stage: Stage, trainer: StageTrainer, step: int, batch: Batch, caught: list[warnings.WarningMessage]
) -> tuple[Culprit, str] | None:
    """One iteration without its optimizers' steps: the first component whose output, or whose gradient, is not finite."""
    recipe = session.recipe
    warnings.simplefilter("always")
    torch.manual_seed(derive_key(recipe.seed.data, "dropout", stage.name, step, session.ranks.rank))
    cycle = _Watched(session.model, batch, session.losses, (recipe.seed.data, "train", stage.name, step), step)
    for player in trainer.players:
        cycle.begin_play()
        values = []
        for term in player.terms:
            with session.model.precision():
                value = cycle.value(term.name) if player.name == MODEL else cycle.critic_value(term.name)
            wrong = [part for name, part in _GIVES.items() if not _finite(cycle.__dict__.get(name))] or cycle.wrong
            if wrong:
                part = wrong[0]
                return Culprit(f"model.{part}", recipe.parts[part]), "what it gives is not finite"
            values.append(value)
            for name, found in {**cycle.values(), term.name: value}.items():
                if not _finite(found):
                    return Culprit(f"losses.{name}", recipe.losses[name].component), f"its value is {float(found.detach()):g}"
        found_ = _backward(session, torch.stack(values).sum(), caught)
        if found_ is not None:
            return found_
    return None


def _backward(session: Session, total: Tensor, caught: list[warnings.WarningMessage]) -> tuple[Culprit, str] | None:
    """Autograd's own search: it names the operation whose gradient is not a number, and warns with the lines that called it."""
    try:
        total.backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        operation = re.search(r"Function '(\w+)' returned nan", str(error))
        if operation:
            return _where(session, "\n".join(str(warning.message) for warning in caught), operation[1])
    return None


def _where(session: Session, trace: str, operation: str) -> tuple[Culprit, str] | None:
    """The innermost line of a component in a printed traceback."""
    modules = {str(getattr(module, "__file__", "")): name for name, module in list(sys.modules.items())}
    for file, line in reversed(re.findall(r'File "([^"]+)", line (\d+)', trace)):
        found = components_in(modules[file], session.recipe) if file in modules else []
        if found:
            return Culprit(*found[0]), f"the gradient of {operation} ({file}:{line}) is not a number"
    return None


class _Watched(Cycle):
    """A cycle that notes which parts gave something that is not finite; `wrong` has them in order."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.wrong: list[str] = []

    def note(self, part: str, found: Any, *read: Any) -> Any:
        """`found` as it is; it is the part's fault where what was `read` is finite."""
        if not _finite(found) and all(map(_finite, read)):
            self.wrong.append(part)
        return found

    def values(self) -> dict[str, Tensor]:
        """The model's losses so far, terms of composites before these."""
        return dict(self._values)

    def image_nll_of(self, y: Tensor, z: Latent, purpose: str) -> Tensor:
        nll: Tensor = self.note("image_decoder", super().image_nll_of(y, z, purpose), y, z)
        return nll

    def draw_again(self, purpose: str) -> tuple[Tensor, Tensor]:
        drawn: tuple[Tensor, Tensor] = self.note("image_decoder", super().draw_again(purpose), self.z_x)
        return drawn

    def score(self, y: Tensor, z: Latent) -> Tensor:
        scores: Tensor = self.note("discriminator", super().score(y, z), y, z)
        return scores

    def features(self, y: Tensor, z: Latent) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = self.note("discriminator", super().features(y, z), y, z)
        return found


def _finite(found: Any) -> bool:
    if isinstance(found, Tensor):
        return not found.is_floating_point() or bool(torch.isfinite(found).all())
    if isinstance(found, tuple | list):
        return all(map(_finite, found))
    if attrs.has(type(found)):
        return all(_finite(getattr(found, field.name)) for field in attrs.fields(type(found)))
    return True
