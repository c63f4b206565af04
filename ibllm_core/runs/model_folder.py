"""The model folder: safetensors, tokenizers, recipe: all that is needed to use a trained model."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import UserError, system_error
from ..host.options import DatasetConfig
from ..interfaces.tokenizer import Tokenizer
from ..model.model import Model
from ..recipe.schema import Recipe
from .directory import replacing, write_json, write_text

#: The weights of the model's parts (``parts.NAME.…``) and, for runs that start from this one, of losses that have their own (``losses.NAME.…``).
WEIGHTS = "weights.safetensors"


def save_model(
    folder: Path,
    recipe: Recipe,
    model: Model,
    weights: Mapping[str, Tensor],
    tokenizers: Mapping[str, Tokenizer],
    record: Mapping[str, Any],
) -> None:
    """Writes a model folder whole or not at all; `record` (provenance, attribution) goes into model.json."""
    texts = {f"tokenizer-{name}.json": tokenizer.state() for name, tokenizer in tokenizers.items()}
    texts |= {"recipe.toml": recipe.source} | ({"ATTRIBUTION.md": f"{record['attribution']}\n"} if record.get("attribution") else {})
    with replacing(folder) as partial:
        partial.mkdir()
        write_weights(partial / WEIGHTS, weights)
        fit = recipe.data.config.fitting() if isinstance(recipe.data.config, DatasetConfig) else None
        write_json(partial / "model.json", {"image_shape": list(model.image_shape), "fit": fit, **record})
        for name, text in texts.items():
            write_text(partial / name, text)


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Writes tensors as safetensors, each with memory of its own."""
    try:
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}, path)
    except SafetensorError as error:  # what the system refuses is only in its text
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) if number else error from error


def of(owner: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one part or loss, by its own names."""
    return {name.removeprefix(f"{owner}."): t for name, t in tensors.items() if name.startswith(f"{owner}.")}


def not_finite(tensors: Mapping[str, Tensor], infinite: Collection[str] = ()) -> list[str]:
    """Names of the tensors that hold what is no finite number; those among `infinite` may be infinite, but not NaN."""
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    return [name for name, t in floats.items() if t.isnan().any() or (name not in infinite and t.isinf().any())]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Raises `UserError` where the file is missing, damaged or cannot be read."""
    try:
        return dict(load_file(path))
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} holds no trained model ({path.name} is missing)") from error
    except (SafetensorError, OSError) as error:
        raise system_error(error) or UserError(f"{path} is damaged: {error}") from error
