"""What users hand to an opened model's methods, looked through. Torch-free."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np
import numpy.typing as npt

from ibllm_core.errors import UserError, suggestion

from .pictures import SUFFIXES, to_pil

if TYPE_CHECKING:
    from ibllm_core.recipe.schema import Recipe

Texts = str | Sequence[str]
Seeds = int | Sequence[int]


def as_texts(texts: Texts) -> tuple[list[Any], bool]:
    """Texts as a list, and whether it was a single one. Raises `UserError` for what is neither a text nor a list."""
    if isinstance(texts, str):
        return [texts], True
    if isinstance(texts, bytes | bytearray | Mapping) or not isinstance(texts, Iterable):
        helps = "; .decode() makes one of bytes" if isinstance(texts, bytes | bytearray) else ""
        raise UserError(f"the text is {_called(texts)}: expected a str, or a list of them{helps}")
    return list(texts), False


def as_seeds(seed: Seeds, count: int) -> list[int]:
    """A seed for each of `count` items. Raises `UserError` for what is no whole number from 0 on, or for another number of seeds."""
    if isinstance(seed, str | bytes) or not isinstance(seed, Iterable) or getattr(seed, "ndim", 1) == 0:
        return [whole_number("seed", seed, 0)] * count
    seeds = [whole_number(f"seed {number} of the list", one, 0) for number, one in enumerate(seed, 1)]
    same_number(seeds=seeds, items=range(count))
    return seeds


def whole_number(name: str, value: object, low: int) -> int:
    """The number. Raises `UserError` for what is none, or less than `low`."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < low:
        expected = f"at least {low}" if number is not None else f"a whole number, at least {low}"
        raise UserError(f"{name} = {value!r}: expected {expected}")
    return number


def real_number(name: str, value: object, low: float = -math.inf, high: float = math.inf, *, above: bool = False) -> float:
    """The number. Raises `UserError` for what is none, not finite, or outside [low, high]; `above`: outside (low, high]."""
    number = float(value) if isinstance(value, SupportsFloat) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number) or not low <= number <= high or (above and number == low):
        bounds = [f"{'more than' if above else 'at least'} {low:g}"] * (low > -math.inf) + [f"at most {high:g}"] * (high < math.inf)
        raise UserError(f"{name} = {value!r}: expected a number{', ' * bool(bounds)}{' and '.join(bounds)}")
    return number


def writing(how: Mapping[str, Any]) -> dict[str, Any]:
    """Options of writing a text, those that are given looked through: ``temperature``, ``top_p``, ``beams``, ``length_exponent``."""
    if how.get("temperature") is not None:
        real_number("temperature", how["temperature"], 0)
    if how.get("top_p") is not None:
        real_number("top_p", how["top_p"], 0, 1, above=True)
    if how.get("beams") is not None:
        whole_number("beams", how["beams"], 1)
    if how.get("length_exponent") is not None:
        real_number("length_exponent", how["length_exponent"])
    return dict(how)


def a_path(name: str, value: object) -> Path:
    """The path. Raises `UserError` for what is none."""
    if not isinstance(value, str | os.PathLike):
        raise UserError(f"{name} is {_called(value)}: expected a path, a str or a Path")
    return Path(value)


def a_name(name: str, value: object, example: str) -> str:
    """The name. Raises `UserError` for what is no str."""
    if not isinstance(value, str):
        raise UserError(f"{name} is {_called(value)}: expected a str, for example {example!r}")
    return value


def overrides(given: object) -> tuple[str, ...]:
    """Overrides of a recipe. Raises `UserError` for a single str, which is no list of them, and for anything else that is none."""
    if isinstance(given, str):
        raise UserError(f"set = {given!r}: expected a list of overrides: set=[{given!r}]")
    if isinstance(given, bytes | Mapping) or not isinstance(given, Iterable):
        raise UserError(f"set is {_called(given)}: expected a list of overrides, for example set=['seed=3']")
    found = tuple(given)
    for number, one in enumerate(found, 1):
        a_name(f"override {number} of {len(found)}", one, "seed=3")
    return found


def _called(value: object) -> str:
    return "None" if value is None else f"{'an' if type(value).__name__[0] in 'aeiou' else 'a'} {type(value).__name__}"


def same_number(**lists: Any) -> None:
    if len({len(items) for items in lists.values()}) > 1:
        raise UserError(f"{', '.join(f'{len(items)} {name}' for name, items in lists.items())}: expected as many of one as of the other")


def at_least_one(**numbers: int) -> None:
    """Raises `UserError` for what is no whole number, or less than 1."""
    for name, number in numbers.items():
        whole_number(name, number, 1)


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
