"""What a component's config says of itself, asked once while a recipe is read: afterwards the core relies on it. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..host.attribution import PluginError
from ..host.figures import Figure, Mark
from ..host.options import Config, DatasetConfig, LossConfig, MetricConfig
from .schema import PLAYERS


def check_answers(config: Config) -> None:
    """Raises `PluginError` where an answer is not what `ibllm_core.host.options` says; what a method raises passes."""
    for name in ("provides", "needs"):
        found = getattr(config, name)()
        _expect(_all(str, found, (frozenset, set)), f"{name}()", found, "a frozenset of strings")
    if isinstance(config, LossConfig):
        players, terms = config.players(), config.terms()
        _expect(_all(str, players) and set(players) <= set(PLAYERS), "players()", players, f"a tuple of {' and '.join(PLAYERS)}")
        _expect(_all(str, terms), "terms()", terms, "a tuple of strings")
    if isinstance(config, MetricConfig):
        figures, marks = config.figures(), config.marks()
        _expect(_all(Figure, figures), "figures()", figures, "a tuple of Figure")
        _expect(_all(Mark, marks), "marks()", marks, "a tuple of Mark")
    if isinstance(config, DatasetConfig):
        splits, shape = config.splits(), config.image_shape
        described = isinstance(splits, Mapping) and _all(str, (*splits, *splits.values())) and "train" in splits
        _expect(described, "splits()", splits, "a table of strings by name with 'train': split → what it holds")
        validated, reported = config.validation_split(), config.reported_splits()
        _expect(validated in splits, "validation_split()", validated, f"one of {', '.join(splits)}")
        others = [split for split in splits if split != validated]
        known = _all(str, reported) and set() < set(reported) <= set(others)
        _expect(known, "reported_splits()", reported, f"a tuple of {', '.join(others)}")
        first = config.primary_split()
        _expect(first in reported, "primary_split()", first, f"one of {', '.join(reported)}")
        _expect(_all(int, shape) and len(shape) == 3 and min(shape) > 0, "image_shape", shape, "a tuple (c, h, w)")


def _all(cls: type, found: Any, holders: Any = tuple) -> bool:
    return isinstance(found, holders) and all(isinstance(entry, cls) for entry in found)


def _expect(right: bool, what: str, found: object, expected: str) -> None:
    if not right:
        raise PluginError(f"its {what} gave {found!r}, expected {expected}")
