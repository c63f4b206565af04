"""Trained agents as attacks on the images of a split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from ibllm_core.errors import UserError
from ibllm_core.interfaces.dataset import Samples

from .agents import Agent, play_out
from .attacking import BATCH, Attacked
from .games import Rules
from .strengths import Strength
from .targets import ImageTarget

if TYPE_CHECKING:
    from ibllm.trained import Trained


def player(opened: Trained, file: Path, split: str, options: Mapping[str, Any]) -> Callable[[Strength, Samples], Attacked]:
    """What plays an agent's attack on items.

    Args:
        options: those of `Rules`, in the place of what the agent was trained with.

    Raises:
        UserError: the file is no agent, the agent is for other items, or there is no such option.
    """
    agent = Agent.load(file)
    c, h, w = opened.model.image_shape
    if agent.about.get("of", "image") != "image" or agent.shape != (h, w, c):
        raise UserError(f"{file} was trained on items of shape {agent.shape}: expected images (h w c) {(h, w, c)}")
    known = {field.name for field in attrs.fields(Rules)} - {"epsilon"}
    if unknown := sorted(options.keys() - known):
        raise UserError(f"--set {unknown[0]}: an agent has no such option; expected one of {', '.join(sorted(known))}")
    rules = {name: value for name, value in agent.about.items() if name in known} | dict(options)

    def play(strength: Strength, samples: Samples) -> Attacked:
        target = ImageTarget.of_samples(opened, samples, int(agent.about.get("patch", 8)))
        try:
            chosen = Rules(epsilon=strength.value, **rules)
        except (TypeError, ValueError) as error:
            raise UserError(f"--set: {error}") from None
        rows = np.arange(len(target))
        parts = [play_out(target, chosen, agent, rows[start : start + BATCH]).items for start in range(0, len(rows), BATCH)]
        return Attacked(images=np.concatenate(parts).astype(np.uint8))

    return play
