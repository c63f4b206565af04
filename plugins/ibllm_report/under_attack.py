"""What ``ibllm attack`` left in a run directory, for its report: figures by strength, and items with their perturbation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from ibllm.figures import Figure

from .files import Object, Picture, objects, read_object, read_picture
from .plots import GLYPHS, MARKERS, Plot, canvas, colour, finish, to_svg
from .results import is_number

#: In the run directory: the results, and the pictures that they name.
FILE, FOLDER = "attack.json", "attack"
#: What is perturbed → what its strength is called.
_STRENGTHS = {
    "image": "ε, as a share of the range from black to white",
    "embedding": "ε, in root mean squares of each word's embedding",
    "text": "changes of a text, at most",
}


@attrs.frozen(kw_only=True)
class Attacked:
    """An item under the strongest attack; `change` is what was added, `magnified` times as large, on grey."""

    item: str
    caption: str
    text: str
    before: Picture | None
    after: Picture | None
    change: Picture | None
    magnified: str
    read_before: str
    read_after: str


@attrs.frozen(kw_only=True)
class AttackView:
    """One attack as the page shows it: a table of figures by strength with their intervals, plots of the shares, items."""

    title: str
    strength: str
    levels: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[tuple[str, str]]]]
    plots: Sequence[Plot]
    items: Sequence[Attacked]
    remarks: Sequence[str]


def read_attacks(run_dir: Path) -> list[AttackView]:
    """All attacks that the run directory keeps; what is broken is left out."""
    return [view for entry in objects(read_object(run_dir / FILE).get("attacks")) if (view := _view(entry, run_dir / FOLDER)) is not None]


def _view(entry: Object, folder: Path) -> AttackView | None:
    found = entry.get("levels")
    levels = [str(level) for level in found] if isinstance(found, list) else []
    figures = [(figure, one) for one in objects(entry.get("figures")) if (figure := _figure(one)) is not None and _fits(one, levels)]
    if not levels or not figures:
        return None
    run, other = str(entry.get("run", "this run")), str(entry.get("transfer") or "")
    of, remarks = str(entry.get("of")), entry.get("remarks")
    rows = [(figure.full_label, run if other else "", _cells(figure, one, "values", "intervals")) for figure, one in figures]
    if other:
        rows += [(figure.full_label, other, _cells(figure, one, "transferred", "transferred_intervals")) for figure, one in figures]
    return AttackView(
        title=f"{entry.get('use')} on {of}s, against {entry.get('against')}: split {entry.get('split')}, {entry.get('items')} items",
        strength=_STRENGTHS.get(of, "strength"),
        levels=levels,
        rows=[row for row in rows if row[2]],
        plots=_plots(levels, [pair for pair in figures if pair[0].percent], run, other),
        items=[_item(one, folder) for one in objects(entry.get("examples"))],
        remarks=[str(remark) for remark in remarks] if isinstance(remarks, list) else [],
    )


def _figure(entry: Object) -> Figure | None:
    known = {field.name for field in attrs.fields(Figure)}
    try:
        return Figure(**{name: value for name, value in entry.items() if name in known})
    except TypeError:
        return None


def _fits(entry: Object, levels: Sequence[str]) -> bool:
    values = entry.get("values")
    return isinstance(values, list) and len(values) == len(levels) and all(map(is_number, values))


def _cells(figure: Figure, entry: Object, values: str, intervals: str) -> list[tuple[str, str]]:
    """(value, interval) by strength, as text."""
    given, around = entry.get(values), entry.get(intervals)
    if not isinstance(given, list):
        return []
    ranges = around if isinstance(around, list) else [None] * len(given)
    shown = [f"{100 * pair[0]:.1f}–{100 * pair[1]:.1f} %" if isinstance(pair, list) and len(pair) == 2 else "" for pair in ranges]
    return list(zip([figure.shown(float(value)) for value in given], shown, strict=False))


def _plots(levels: Sequence[str], figures: Sequence[tuple[Figure, Object]], run: str, other: str) -> list[Plot]:
    """Shares by strength with their intervals; a plot for each few figures, and one for the second model."""
    several = [figures[k : k + len(MARKERS)] for k in range(0, len(figures), len(MARKERS))]
    found = [_plot(f"{run} under attack" if other else "Shares by strength", levels, some, "values", "intervals") for some in several]
    if other:
        found += [_plot(f"{other}, shown the same", levels, some, "transferred", "transferred_intervals") for some in several]
    return [plot for plot in found if plot is not None]


def _plot(title: str, levels: Sequence[str], figures: Sequence[tuple[Figure, Object]], values: str, intervals: str) -> Plot | None:
    lines = [(figure, entry[values], entry.get(intervals)) for figure, entry in figures if isinstance(entry.get(values), list)]
    if not lines:
        return None
    with canvas(title) as (figure, axes):
        axes.margins(x=0.1)
        for k, (_, points, around) in enumerate(lines):
            places = list(range(len(points)))
            bars = [pair if isinstance(pair, list) else [y, y] for pair, y in zip(around or [None] * len(points), points, strict=True)]
            spread = [
                [max(0.0, y - low) for y, (low, _) in zip(points, bars, strict=True)],
                [max(0.0, high - y) for y, (_, high) in zip(points, bars, strict=True)],
            ]
            style: Any = {"color": colour(k), "marker": MARKERS[k], "markersize": 5, "linewidth": 1.3, "elinewidth": 0.9, "capsize": 2.5}
            axes.errorbar(places, points, yerr=spread, clip_on=False, **style)
        axes.set_xticks(range(len(levels)), levels)
        finish(axes, [y for _, points, _ in lines for y in points], True)
        legend = [(GLYPHS[k], k + 1, one.full_label) for k, (one, _, _) in enumerate(lines)]
        ends = "; ".join(f"{one.label}: from {one.shown(points[0])} to {one.shown(points[-1])}" for one, points, _ in lines)
        return Plot(title, to_svg(figure, f"Plot. {title}. {ends}."), legend)


def _item(entry: Object, folder: Path) -> Attacked:
    words: Any = {
        name: "" if entry.get(name) is None else str(entry[name]) for name in ("item", "caption", "text", "read_before", "read_after")
    }
    names = {name: entry.get(name) for name in ("before", "after", "change")}
    pictures: Any = {name: read_picture(folder, value if isinstance(value, str) else None) for name, value in names.items()}
    by = entry.get("magnified")
    return Attacked(**words, **pictures, magnified=f"{by:g}" if isinstance(by, int | float) and is_number(by) else "")
