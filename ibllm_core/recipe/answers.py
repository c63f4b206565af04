"""What a component's config says of itself, asked once while a recipe is read: afterwards the core relies on it. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

from ..host.attribution import PluginError
from ..host.figures import Figure, Mark
from ..host.options import Config, DatasetConfig, LossConfig, MetricConfig

_PLAYERS = ("model", "critic")


def check_answers(config: Config) -> None:
    """Raises `PluginError` where an answer is not what `ibllm_core.host.options` says; what a method raises passes."""
    for name in ("provides", "needs"):
        found = getattr(config, name)()
        _expect(isinstance(found, frozenset | set) and _words(found), f"{name}()", found, "a frozenset of strings")
    if isinstance(config, LossConfig):
        players, terms = config.players(), config.terms()
        _expect(isinstance(players, tuple) and set(players) <= set(_PLAYERS), "players()", players, f"a tuple of {' and '.join(_PLAYERS)}")
        _expect(isinstance(terms, tuple) and _words(terms), "terms()", terms, "a tuple of strings")
    if isinstance(config, MetricConfig):
        figures = config.figures()
        _expect(_all(Figure, figures), "figures()", figures, "a tuple of Figure")
        marks = config.marks()
        _expect(_all(Mark, marks), "marks()", marks, "a tuple of Mark")
    if isinstance(config, DatasetConfig):
        splits, shape = config.splits(), config.image_shape
        described = isinstance(splits, Mapping) and _words((*splits, *splits.values())) and "train" in splits
        _expect(described, "splits()", splits, "a table of strings by name with 'train': split → what it holds")
        validated, reported = config.validation_split(), config.reported_splits()
        _expect(validated in splits, "validation_split()", validated, f"one of {', '.join(splits)}")
        well = isinstance(reported, tuple) and reported and set(reported) <= set(splits) - {validated}
        _expect(bool(well), "reported_splits()", reported, f"a tuple of {', '.join(split for split in splits if split != validated)}")
        first = config.primary_split()
        _expect(first in reported, "primary_split()", first, f"one of {', '.join(reported)}")
        numbers = isinstance(shape, tuple) and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape)
        _expect(numbers, "image_shape", shape, "a tuple (c, h, w)")


def _all(cls: type, found: object) -> bool:
    return isinstance(found, tuple) and all(isinstance(entry, cls) for entry in found)


def _words(found: object) -> bool:
    return isinstance(found, tuple | set | frozenset) and all(isinstance(word, str) for word in found)


def _expect(right: bool, what: str, found: object, expected: str) -> None:
    if not right:
        raise PluginError(f"its {what} gave {found!r}, expected {expected}")
