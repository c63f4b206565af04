"""The flat results of a run as a table, for whatever shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ibllm.figures import IMAGE_TO_TEXT, OTHER, ROUND_TRIP, TEXT_TO_IMAGE, Figure
from ibllm.glossary import Glossary

#: The figure that the core gives of every split: how many items were measured. It stands beside the others, not among them.
ITEMS = "items"


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def wilson(fraction: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a fraction of n (95 % by default; Wilson 1927, JASA 22:209)."""
    centre = fraction + z * z / (2 * n)
    half = z * math.sqrt(fraction * (1 - fraction) / n + z * z / (4 * n * n))
    return max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))


def split_of(key: str) -> tuple[str, str]:
    """``test/accuracy`` → (``test``, ``accuracy``); a key without a split belongs to the split ````."""
    split, slash, figure = key.partition("/")
    return (split, figure) if slash else ("", key)


@attrs.frozen(kw_only=True)
class Cell:
    """One figure of one split. `interval` is the 95 % interval as text, empty where n is not known."""

    text: str
    n: int | None = None
    interval: str = ""


@attrs.frozen(kw_only=True)
class Row:
    """One figure over the splits."""

    figure: Figure
    cells: Mapping[str, Cell]


@attrs.frozen(kw_only=True)
class ResultsTable:
    """Figures as rows, splits as columns. `primary` is the split to look at first, `items` says on how many items a split was measured."""

    splits: Sequence[str]
    rows: Sequence[Row]
    primary: str | None
    items: Mapping[str, int]

    def groups(self) -> list[tuple[str, list[Row]]]:
        """Rows by direction; a metric's own directions come before the rest."""
        own = (row.figure.direction for row in self.rows if row.figure.direction != OTHER)
        found: dict[str, list[Row]] = {name: [] for name in (TEXT_TO_IMAGE, IMAGE_TO_TEXT, ROUND_TRIP, *own, OTHER)}
        for row in self.rows:
            found[row.figure.direction].append(row)
        return [(direction, rows) for direction, rows in found.items() if rows]


def table(results: Mapping[str, Any], glossary: Glossary) -> ResultsTable:
    """The flat results of a run, ``split/figure`` → value, as a table; ``split/items`` gives the number that shares were taken of."""
    known = {split_of(key): float(value) for key, value in results.items() if is_number(value)}
    items = {split: int(value) for (split, name), value in known.items() if name == ITEMS and value >= 1}
    cells: dict[str, dict[str, Cell]] = {}
    for (split, name), value in known.items():
        if name != ITEMS:
            cells.setdefault(name, {})[split] = _cell(value, glossary.figure(name), items.get(split))
    splits = list(dict.fromkeys(split for split, name in known if name != ITEMS))
    rows = [Row(figure=glossary.figure(name), cells=cells[name]) for name in sorted(cells, key=glossary.rank)]
    return ResultsTable(splits=splits, rows=rows, primary=glossary.first_split(splits), items=items)


def _cell(value: float, figure: Figure, items: int | None) -> Cell:
    if items is None or not figure.counted or not 0 <= value <= 1:
        return Cell(text=figure.shown(value))
    low, high = wilson(value, items)
    return Cell(text=figure.shown(value), n=items, interval=f"{100 * low:.1f}–{100 * high:.1f} %")
