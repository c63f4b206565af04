"""A tiny model with random weights, which costs no training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ibllm_core.model import build
from ibllm_core.recipe import load
from ibllm_core.recipe.document import to_toml
from ibllm_core.runs.model_folder import save_model

SHAPES = Path(__file__).parents[1] / "training" / "tiny.toml"


def untrained(folder: Path, tables: Mapping[str, Any]) -> Path:
    """A model folder of a tiny model with random weights, its recipe's tables laid over; what a decoder begins at 0 is moved, so that it does something."""
    parts = {"discriminator": False, **tables["model"]}
    recipe_file = folder / "recipe.toml"
    codec = "image_tokenizer" in parts
    shared = list(parts.get("shared", {}))
    module = {"steps": 1, "train": ["text_encoder", "image_decoder", "image_encoder", "text_decoder", *shared]}
    stages: dict[str, Any] = {"text": {**module, "losses": {"image_nll": 1.0, "text_nll": 1.0}}, "image": False, "joint": False}
    losses: dict[str, Any] = dict.fromkeys(("adversarial", "penalty", "cycle", "joint"), False)
    if codec:
        losses["codec"] = {"use": "reconstruction"}
        stages["codec"] = {"steps": 1, "train": ["image_tokenizer"], "losses": {"codec": 1.0}}
    text: dict[str, Any] = {
        "extends": str(SHAPES),
        "order": [*(["codec"] if codec else []), "text"],
        "model": parts,
        "losses": losses,
        "metrics": {"round_trip": False},
        "trackers": {"tensorboard": False},
        "stages": stages,
        "evaluation": {"splits": ["test"]},
        **{name: table for name, table in tables.items() if name != "model"},
    }
    recipe_file.write_text(to_toml(text), encoding="utf-8")
    recipe = load(recipe_file)
    dataset = build.build_dataset(recipe)
    tokenizers = build.build_tokenizers(recipe, [dataset])
    model = build.build_model(recipe, tokenizers, build.image_shape(recipe))
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    weights = {f"parts.{name.removeprefix('parts.')}": one for name, one in model.state_dict().items()}
    save_model(folder / "model", recipe, model, weights, tokenizers, {})
    return folder / "model"
