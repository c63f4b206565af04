"""Do the weights of other runs that a recipe starts from fit its parts? Only the headers of their files are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..errors import UserError
from ..model.model import Model
from ..recipe.schema import Init, Recipe, place_of


def check_starts(recipe: Recipe, model: Model) -> None:
    """Raises `UserError` at the first part whose weights are not there or have other shapes."""
    starts = [("init", recipe.init, dict[str, str]()), *((f"stages.{stage.name}.init", stage.init, {}) for stage in recipe.running())]
    starts += [(f"{place_of(part)}.init", init, parts) for init, parts in recipe.model.starts() for part in parts]
    for key, init, parts in starts:
        if init is None:
            continue
        given = _shapes(init)
        for part, source in (parts or {name: name for name in init.parts or model.parts}).items():
            theirs = {name.split(".", 2)[2]: shape for name, shape in given.items() if name.startswith(f"parts.{source}.")}
            own = {name: tuple(tensor.shape) for name, tensor in model.parts[part].state_dict().items()}
            wrong = sorted(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name))
            if wrong and (theirs or parts or init.parts):
                one = f"{wrong[0]} is {theirs.get(wrong[0], 'missing')} there, {own.get(wrong[0], 'missing')} here"
                place = next((d.place for d in recipe.dependencies if ".".join(map(str, d.path)) == f"{key}.run"), recipe.place)
                raise UserError(f"{key}: the weights of the run's {source} do not fit this recipe's {part}: {one}", place)


def _shapes(init: Init) -> Mapping[str, tuple[int, ...]]:
    held = "checkpoints/step-*" if init.weights == "raw" else "model"
    try:
        with safe_open(max(Path(init.run).glob(f"{held}/weights.safetensors")), "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in [*file.keys()]}
    except (ValueError, OSError, SafetensorError) as error:
        raise UserError(f"init.run = {init.run!r}: its weights cannot be read: {error}") from error
