"""What users hand to an opened model's methods, looked through. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ibllm_core.errors import UserError, suggestion

from .pictures import SUFFIXES, to_pil

if TYPE_CHECKING:
    from ibllm_core.recipe.schema import Recipe

Texts = str | Sequence[str]
Seeds = int | Sequence[int]


def as_texts(texts: Texts) -> tuple[list[Any], bool]:
    return ([texts], True) if isinstance(texts, str) else (list(texts), False)


def as_seeds(seed: Seeds, count: int) -> list[int]:
    seeds = [seed] * count if isinstance(seed, int) else list(seed)
    same_number(seeds=seeds, items=range(count))
    return seeds


def same_number(**lists: Any) -> None:
    if len({len(items) for items in lists.values()}) > 1:
        raise UserError(f"{', '.join(f'{len(items)} {name}' for name, items in lists.items())}: expected as many of one as of the other")


def at_least_one(**numbers: int) -> None:
    for name, number in numbers.items():
        if not isinstance(number, int) or number < 1:
            raise UserError(f"{name} = {number}: expected at least 1")


def is_file(text: str) -> bool:
    """Whether a string is meant as a path."""
    path = Path(text)
    try:
        return path.is_file() or path.suffix.lower() in SUFFIXES
    except (OSError, ValueError):  # longer than a path may be, or with a NUL
        return False


def language_of(recipe: Recipe, language: str | None) -> str | None:
    """The language. Raises `UserError` where the captioner cannot be asked to write in it."""
    if language is not None and language not in recipe.languages:
        knows = suggestion(language, recipe.languages) if recipe.languages else "it is told none: model.text_decoder.languages is empty"
        raise UserError(f"language = {language!r}: the captioner cannot be asked to write in it; {knows}")
    return language


def picture(image: npt.NDArray[np.uint8], output: str) -> Any:
    if output not in ("pil", "numpy"):
        raise UserError(f"output = {output!r}: expected 'pil' or 'numpy'")
    return to_pil(image) if output == "pil" else image
