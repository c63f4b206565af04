"""How figures are put into a table; shared by the page and the terminal. What they mean stands in `meanings`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from .meanings import DIRECTIONS, KNOWN, NOT_INDEPENDENT, Meaning, meaning

__all__ = [
    "COUNTS",
    "DIRECTIONS",
    "KNOWN",
    "NOT_INDEPENDENT",
    "PRIMARY",
    "SPLITS",
    "Cell",
    "Meaning",
    "Row",
    "Table",
    "is_number",
    "meaning",
    "primary_split",
    "shown",
    "split_of",
    "table",
    "told",
    "wilson",
]

#: Result keys that count what a fraction is taken of; they are no figures themselves.
COUNTS = frozenset({"items", "objects"})

SPLITS: Mapping[str, str] = {
    "train": "items seen in training",
    "validation": "new items of the training's kind, looked at during training",
    "test": "new items of the training's kind",
    "novel": "combinations never seen in training",
    "novel-validation": "other unseen combinations, looked at during training",
    "tone": "in a skin tone never seen for that person or hand",
    "concept": "concepts never seen; each of their words was",
}
PRIMARY = ("novel", "test")


def told(record: Mapping[str, Any]) -> str:
    """How a figure came about, as one line: ``n 512, extractor random, features 64``."""
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in record.items())


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def shown(value: float, percent: bool) -> str:
    """0.9316 → ``93.2 %``; 95.213 → ``95.2``; 0.03125 → ``0.0312``."""
    if percent:
        return f"{100 * value:.1f} %"
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def wilson(fraction: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a fraction of n (95 % by default; Wilson 1927, JASA 22:209)."""
    centre = fraction + z * z / (2 * n)
    half = z * math.sqrt(fraction * (1 - fraction) / n + z * z / (4 * n * n))
    return max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))


@attrs.frozen(kw_only=True)
class Cell:
    """One figure of one split. `interval` is the 95 % interval as text, empty where n is not known."""

    value: float
    text: str
    n: int | None = None
    interval: str = ""


@attrs.frozen(kw_only=True)
class Row:
    """One figure over the splits."""

    figure: str
    meaning: Meaning
    cells: Mapping[str, Cell]


@attrs.frozen(kw_only=True)
class Table:
    """Figures as rows, splits as columns."""

    splits: Sequence[str]
    rows: Sequence[Row]
    primary: str | None

    def groups(self) -> list[tuple[str, list[Row]]]:
        """Rows by direction; directions without rows are left out."""
        by_direction = [(direction, [row for row in self.rows if row.meaning.direction == direction]) for direction in DIRECTIONS]
        return [(direction, rows) for direction, rows in by_direction if rows]


def split_of(key: str) -> tuple[str, str]:
    """``novel/scene_exact`` → (``novel``, ``scene_exact``); a key without a split belongs to the split ````."""
    split, slash, figure = key.partition("/")
    return (split, figure) if slash else ("", key)


def primary_split(splits: Iterable[str]) -> str | None:
    """The split that a reader looks at first."""
    found = list(splits)
    return next((split for split in PRIMARY if split in found), found[0] if found else None)


def table(results: Mapping[str, Any], items: int | Mapping[str, int] | None = None) -> Table:
    """The flat results of a run as a table.

    Args:
        results: ``split/figure`` → value; ``split/items`` (and ``split/objects``) give the number that fractions were taken of.
        items: the number of items where `results` does not say: of every split, or split → number.
    """
    known = {key: float(value) for key, value in results.items() if is_number(value)}
    keys = [(*split_of(key), value) for key, value in known.items()]
    splits = list(dict.fromkeys(split for split, figure, _ in keys if figure not in COUNTS))
    figures = dict.fromkeys(figure for _, figure, _ in keys if figure not in COUNTS)
    order = {name: k for k, name in enumerate(KNOWN)}
    rows = []
    for figure in sorted(figures, key=lambda name: (DIRECTIONS.index(meaning(name).direction), order.get(name, len(order)))):
        about = meaning(figure)
        cells = {split: _cell(value, about, _count(known, split, about, items)) for split, name, value in keys if name == figure}
        rows.append(Row(figure=figure, meaning=about, cells=cells))
    return Table(splits=splits, rows=rows, primary=primary_split(splits))


def _count(known: Mapping[str, float], split: str, about: Meaning, items: int | Mapping[str, int] | None) -> int | None:
    if about.counted is None:
        return None
    found = known.get(f"{split}/{about.counted}" if split else about.counted)
    if found is None and about.counted == "items" and items is not None:
        found = items if isinstance(items, int) else items.get(split)
    return int(found) if found is not None and found >= 1 else None


def _cell(value: float, about: Meaning, n: int | None) -> Cell:
    interval = ""
    if n is not None and 0 <= value <= 1:
        low, high = wilson(value, n)
        interval = f"{100 * low:.1f}–{100 * high:.1f} %"
    return Cell(value=value, text=shown(value, about.percent), n=n, interval=interval)
