"""A loss is no number any more: who gave the first one? Looked for afterwards, so that a run that goes well pays nothing."""

from __future__ import annotations

import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Any

import attrs
import torch
from torch import Tensor

from ibllm_core.host.attribution import ComponentFailed, components_in
from ibllm_core.model import build
from ibllm_core.model.players import Player
from ibllm_core.model.stage import StageTrainer
from ibllm_core.model.watch import Watch
from ibllm_core.recipe.schema import Recipe, Stage
from ibllm_core.training import checkpoints
from ibllm_core.training.events import Listener, NotFinite
from ibllm_core.training.session import Session


class Divergence(Listener):
    """Says which component it was, where there is one."""

    def on_not_finite(self, event: NotFinite) -> None:
        found = first_wrong(event.session, event.stage, event.trainer)
        nobody = "Every part and loss gives numbers where training stood before"
        event.findings.append(found or nobody)


def first_wrong(session: Session, stage: Stage, trainer: StageTrainer) -> str:
    """Names the component whose output or gradient is the first that is not finite; empty where there is none, and training itself diverged.

    Plays the iterations since the last log line again, every loss in each and without the optimizers' steps, with the present weights if they are
    numbers, else with those of the newest checkpoint that are, else with the first ones. The session's weights are not to be used afterwards.
    """
    deadline, window = time.perf_counter() + 60, trainer.step % stage.training.log_every or stage.training.log_every
    # Looking for the fault must not hide that there is one.
    with closing(session.feeder(stage, whole=True)) as feeder, suppress(Exception):
        origin = _sound_weights(session)
        for step in range(max(0, trainer.step - window), trainer.step):
            trainer.go_to(step, dict.fromkeys((player.name for player in trainer.players), 0))
            try:
                with warnings.catch_warnings(record=True) as caught, torch.autograd.detect_anomaly(check_nan=True):
                    warnings.simplefilter("always")
                    trainer.look(feeder.make(step), _Search(session.recipe, caught))
            except _Found as found:
                key, component, what = found.args
                failed = ComponentFailed(component, key, f"{what} in the batch of the stage's step {step + 1}, with {origin}")
                return f"The first that is not: {failed}"
            if time.perf_counter() > deadline:
                break
    return ""


def _sound_weights(session: Session) -> str:
    """Puts weights that are numbers into model and losses; says which."""
    if all(_finite(t) for module in (session.model, *session.losses.values()) for t in module.state_dict().values()):
        return "the weights as they are"
    found, _ = checkpoints.newest(session.directory.checkpoints, session.flaws)
    if found is not None:
        session.take(found.tensors, found.state)
        return f"the weights of the checkpoint after {found.state['global_step']} steps in all"
    with torch.device("cpu"):
        model = build.build_model(session.recipe, session.tokenizers, session.dataset.image_shape)
        losses = build.build_losses(session.recipe, tuple(session.losses), model)
    session.model.load_state_dict(model.state_dict())
    for name, loss in losses.items():
        session.losses[name].load_state_dict(loss.state_dict())
    return "the first weights"


class _Found(Exception):
    """(path in the recipe, component, what of it is not finite)."""


@attrs.frozen
class _Search(Watch):
    """Raises `_Found` at the first value or gradient that is not finite. `caught` are the warnings of autograd's own search."""

    recipe: Recipe
    caught: Sequence[warnings.WarningMessage]

    def computed(self, step: str, part: str, value: Any, inputs: Sequence[Any]) -> None:
        if part and not _finite(value) and all(map(_finite, inputs)):
            raise _Found(self.recipe.place_of(part), self.recipe.parts[part], "what it gives is not finite")

    def loss(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        value = compute()
        if not _finite(value):
            raise _Found(f"losses.{name}", self.recipe.losses[name].component, f"its value is {float(value.detach()):g}")
        return value

    def backward(self, player: Player, loss: Tensor) -> None:
        try:
            super().backward(player, loss)
        except RuntimeError as error:
            # Autograd names the operation whose gradient is not a number, and warns with the lines that called it.
            modules = {str(getattr(module, "__file__", "")): name for name, module in list(sys.modules.items())}
            trace = "\n".join(str(warning.message) for warning in self.caught)
            for operation in re.findall(r"Function '(\w+)' returned nan", str(error)):
                for file, line in reversed(re.findall(r'File "([^"]+)", line (\d+)', trace)):
                    for culprit in components_in(modules.get(file, ""), self.recipe):
                        raise _Found(*culprit, f"the gradient of {operation} ({file}:{line}) is not a number") from error


def _finite(found: Any) -> bool:
    if isinstance(found, Tensor):
        return not found.is_floating_point() or bool(torch.isfinite(found).all())
    if isinstance(found, tuple | list):
        return all(map(_finite, found))
    return not attrs.has(type(found)) or all(map(_finite, attrs.astuple(found, recurse=False)))
