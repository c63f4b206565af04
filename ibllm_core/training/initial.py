"""Weights that a run starts from, where they are another run's."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from ..model.model import Model
from ..recipe.schema import Init
from ..runs.model_folder import WEIGHTS, read_weights
from . import checkpoints


def start_from(model: Model, init: Init, parts: tuple[str, ...] = ()) -> None:
    """Takes the weights of another run into the model's parts (`Init`). Raises `UserError` where they do not fit."""
    folder = Path(init.run)
    if init.weights == "raw":
        found = checkpoints.newest(folder / "checkpoints")
        if found is None:
            raise UserError(f"init.run = {init.run!r}: no whole checkpoint in {folder / 'checkpoints'}")
        weights = dict(found[1].tensors["weights"])
    else:
        weights = read_weights(folder / "model" / WEIGHTS)
    there = {name.split(".")[1] for name in weights}
    for part in parts or init.parts or tuple(p for p in model.parts if p in there):
        if part not in model.parts or part not in there:
            raise UserError(f"init.run = {init.run!r}: {part} is not in {'that run' if part in model.parts else 'this model'}")
        prefix = f"parts.{part}."
        own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        try:
            model.parts[part].load_state_dict(own)
        except RuntimeError as error:
            raise UserError(f"init.run = {init.run!r}: the weights of {part} do not fit this recipe's {part}: {error}") from error
