"""Tokenizers as plain JSON for programs without ibllm."""

from __future__ import annotations

import json
from typing import Any

from ibllm_core.interfaces.tokenizer import SPECIAL, Tokenizer
from ibllm_core.recipe.locate import Component
from ibllm_core.recipe.schema import Recipe


def plain(component: Component, tokenizer: Tokenizer) -> dict[str, Any]:
    """What the stand-alone programs read: ``kind`` (``word``, ``bpe``, or another's name, whose texts they cannot read), ``max_length``, vocabulary."""
    found: dict[str, Any] = {"kind": component.use, "max_length": tokenizer.max_length}
    if component.use == "word":
        found |= {"lowercase": getattr(component.config, "lowercase", False), "pieces": [*SPECIAL, *json.loads(tokenizer.state())]}
    elif component.use == "bpe":
        model = json.loads(tokenizer.state())["model"]
        merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        found |= {"vocabulary": model["vocab"], "merges": merges}
    return found


def of_part(recipe: Recipe, part: str) -> str:
    """The name of a text part's tokenizer."""
    name: str = getattr(recipe.parts[part].config, "tokenizer", "")
    return name
