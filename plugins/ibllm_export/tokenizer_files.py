"""Tokenizers as plain JSON for programs without ibllm."""

from __future__ import annotations

import json
from typing import Any, Protocol, cast

from ibllm_core.interfaces.tokenizer import SPECIAL, Tokenizer
from ibllm_core.recipe.locate import Component
from ibllm_core.recipe.schema import Recipe


class Rules(Protocol):
    """How a tokenizer of words cuts: the insides of two character classes, and whether ICU cuts scripts without spaces."""

    unspaced: str
    joined: str
    words: bool


class Cutting(Protocol):
    """A tokenizer of words."""

    reading: Rules


def plain(component: Component, tokenizer: Tokenizer) -> dict[str, Any]:
    """What the stand-alone programs read: ``kind`` (``word``, ``bpe``, or another's name, whose texts they cannot read), ``max_length``, vocabulary.

    A vocabulary of words has the rules that texts are cut by: the classes of ``unspaced`` and ``joined`` characters, and whether ICU cuts ``words``;
    one of bytes whether texts are ``composed`` (NFC) first.
    """
    found: dict[str, Any] = {"kind": component.use, "max_length": tokenizer.max_length}
    if component.use == "word":
        state, rules = json.loads(tokenizer.state()), cast(Cutting, tokenizer).reading
        found |= {"lowercase": getattr(component.config, "lowercase", False), "unspaced": rules.unspaced, "joined": rules.joined}
        found |= {"words": rules.words, "pieces": [*SPECIAL, *(state if isinstance(state, list) else state["pieces"])]}
    elif component.use == "bpe":
        state = json.loads(tokenizer.state())
        model = state["model"]
        merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        found |= {"vocabulary": model["vocab"], "merges": merges, "composed": state["normalizer"] is not None}
    return found


def of_part(recipe: Recipe, part: str) -> str:
    """The name of a text part's tokenizer."""
    name: str = getattr(recipe.parts[part].config, "tokenizer", "")
    return name
