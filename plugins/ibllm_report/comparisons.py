"""Plots of several arms at once: differences with intervals, curves with bands, quality against cost. They know nothing of studies."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from .plots import GLYPHS, MARKERS, TEXT, Plot, canvas, colour, finish, spans_decades, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Arms that one plot can distinguish.
SLOTS = len(MARKERS)
#: Characters of an arm's name in one line of a plot.
_WRAP = 26


@attrs.frozen
class Estimate:
    """One row of a forest plot, in shown units: a value with its interval, what it was made of, and the same as text."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    points: Sequence[float]
    text: str


@attrs.frozen
class Point:
    """One step of a curve: the mean over runs and, where there are two or more, its interval."""

    x: float
    mean: float
    low: float | None
    high: float | None


@attrs.define
class Curve:
    """An arm's course; `label` names all arms that have it. `slot` is its colour and marker, the same in all plots; below `SLOTS`."""

    label: str
    points: Sequence[Point]
    slot: int


@attrs.frozen
class Spot:
    """An arm in a plot of quality against cost, in shown units. `number` stands beside it; `best`: no other arm is as good for less."""

    number: int
    label: str
    x: float
    y: float
    low: float | None
    high: float | None
    best: bool


def forest(title: str, estimates: Sequence[Estimate], *, xlabel: str, wide: bool = False, right_is: str = "") -> Plot:
    """Differences with intervals, one row each, in the order given from the top; zero is a line. Dots are single seeds.

    Args:
        wide: with the numbers beside the rows.
        right_is: what lies to the right of zero, ``better`` or ``worse``; empty where that is not known.
    """
    labels = [textwrap.wrap(estimate.label, _WRAP)[:3] or [""] for estimate in estimates]
    height = 0.75 + 0.19 * sum(max(2, len(lines)) for lines in labels)
    with canvas(f"{title} {wide}", (6.6 if wide else 3.9, height)) as (figure, axes):
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        axes.axvline(0, color=TEXT, linewidth=1.0)
        for row, estimate in enumerate(estimates):
            _row(axes, row, estimate, wide)
        axes.set_ylim(len(estimates) - 0.4, -0.6)
        axes.set_yticks(range(len(estimates)), ["\n".join(lines) for lines in labels])
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", length=3)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(xlabel)
        _widen(axes, [value for estimate in estimates for value in (0.0, estimate.value, estimate.low, estimate.high) if value is not None])
        axes.xaxis.set_major_formatter(_signed)
        if right_is:
            left_is = "worse" if right_is == "better" else "better"
            for place, side, text in ((0.0, "left", f"← {left_is}"), (1.0, "right", f"{right_is} →")):
                axes.annotate(
                    text, (place, 1.0), (0, 2), xycoords="axes fraction", textcoords="offset points", ha=side, va="bottom", fontsize=8.5
                )
        listing = "; ".join(f"{estimate.label}: {estimate.text}" for estimate in estimates)
        return Plot(title, to_svg(figure, f"Plot. {title}. {listing}."))


def _row(axes: Axes, row: int, estimate: Estimate, wide: bool) -> None:
    if estimate.points:
        axes.plot(estimate.points, [row + 0.24] * len(estimate.points), "o", color=colour(0), markersize=3, alpha=0.45, markeredgewidth=0)
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [row, row], color=colour(0), linewidth=2.2, solid_capstyle="butt")
        axes.plot([estimate.low, estimate.high], [row, row], "|", color=colour(0), markersize=7, markeredgewidth=1.6)
    if estimate.value is not None:
        axes.plot([estimate.value], [row], "s", color=colour(0), markersize=6)
    if wide:
        axes.annotate(
            estimate.text,
            (1.0, row),
            (8, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="left",
            va="center",
            fontsize=8.5,
        )


def curves(
    title: str,
    found: Sequence[Curve],
    *,
    percent: bool,
    xlabel: str,
    at: Sequence[float] = (),
    whole: bool = False,
    names: Mapping[float, str] | None = None,
) -> Plot:
    """Means over runs as lines, their intervals as bands.

    Args:
        at: the values to the right, where there are few and known ones: each has its mark, and they stand apart as their logarithms do if they span
            decades.
        names: what to write at these values instead of numbers.
        whole: of percents all is shown, 0 to 100, so that plots compare.
    """
    from matplotlib.ticker import MaxNLocator

    assert len({curve.slot for curve in found}) == len(found), "split them over several plots"
    with canvas(title) as (figure, axes):
        for curve in found:
            k = curve.slot
            banded = [point for point in curve.points if point.low is not None]
            if len(banded) > 1:
                axes.fill_between(
                    [point.x for point in banded], [_of(point.low) for point in banded], [_of(point.high) for point in banded],
                    color=colour(k), alpha=0.16, linewidth=0,
                )  # fmt: skip
            axes.plot(
                [point.x for point in curve.points], [point.mean for point in curve.points], color=colour(k), linewidth=1.5,
                marker=MARKERS[k], markersize=4, clip_on=False,
            )  # fmt: skip
            for point in banded if len(banded) == 1 else ():
                axes.plot([point.x, point.x], [_of(point.low), _of(point.high)], color=colour(k), linewidth=1.2)
        values = [point.mean for curve in found for point in curve.points]
        if not percent and spans_decades(values):
            axes.set_yscale("log")
        finish(axes, values, percent=False)
        if percent:
            # Of 0–100 % only what is used: arms are to be distinguished.
            low, high = (-0.02, 1.02) if whole else axes.get_ylim()
            axes.set_ylim(max(low, -0.02), min(high, 1.02))
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        axes.set_xlabel(xlabel)
        if at and spans_decades(at):
            axes.set_xscale("log")
        if at:
            words = names or {value: f"{value:,g}" if value < 1e6 else f"{value:.0e}" for value in at}
            axes.set_xticks(at, [words[value] for value in at], minor=False)
            axes.set_xticks([], minor=True)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ends = "; ".join(f"{curve.label}: {_short(curve.points[-1].mean, percent)} at the end" for curve in found if curve.points)
        legend = [(GLYPHS[curve.slot], curve.slot + 1, curve.label) for curve in found]
        return Plot(title, to_svg(figure, f"Plot. {title}. {ends}."), legend)


def trade_off(title: str, spots: Sequence[Spot], *, xlabel: str, ylabel: str, percent: bool = False) -> Plot:
    """Quality against cost: numbered arms, those of the Pareto front filled and joined. Of percents only 0–100 is shown, whatever an interval says."""
    with canvas(title, (4.6, 3.0)) as (figure, axes):
        axes.grid(visible=True, axis="both")
        xs = [spot.x for spot in spots]
        if spans_decades(xs):
            axes.set_xscale("log")
        elif max(xs) - min(xs) < 0.1 * max(xs):
            axes.set_xlim(min(xs) - 0.05 * max(xs), max(xs) + 0.05 * max(xs))
        front = sorted((spot.x, spot.y) for spot in spots if spot.best)
        axes.plot(*zip(*front, strict=True), color=colour(1), linewidth=1.2, linestyle=(0, (3, 2)), drawstyle="steps-post")
        for spot in spots:
            if spot.low is not None and spot.high is not None:
                axes.plot([spot.x, spot.x], [spot.low, spot.high], color=colour(0), linewidth=1.1, alpha=0.6)
            axes.plot(
                [spot.x],
                [spot.y],
                "o",
                color=colour(0),
                markersize=6,
                markerfacecolor=colour(0) if spot.best else "none",
                markeredgewidth=1.3,
            )
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.margins(x=0.08, y=0.12)
        if percent:
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, -3.0), min(high, 103.0))
        axes.tick_params(length=3)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
            axis.set_minor_formatter(lambda value, _: "")
        figure.draw_without_rendering()
        _number(axes, spots)
        listing = "; ".join(f"{spot.label}: {spot.y:.4g} for {spot.x:.4g}" for spot in spots)
        return Plot(title, to_svg(figure, f"Plot. {title}. {listing}."), [(str(spot.number), 1, spot.label) for spot in spots])


#: Where a number may stand beside its spot, in points: near ones first.
_BESIDE = [(reach * dx, reach * dy) for reach in (7.5, 12, 18, 26) for dx, dy in ((1, 1), (-1, -1), (1, -1), (-1, 1), (0, 1), (0, -1))]
#: Half the room that a spot or a number takes, in points.
_ROOM = 9.0


def _number(axes: Axes, spots: Sequence[Spot]) -> None:
    """Each spot's number, where it covers neither a spot nor another number if there is such a place."""
    points_to_pixels = axes.figure.dpi / 72
    places = [tuple(axes.transData.transform((spot.x, spot.y)) / points_to_pixels) for spot in spots]
    taken = list(places)
    for spot, (x, y) in zip(spots, places, strict=True):
        free = [(dx, dy) for dx, dy in _BESIDE if all(abs(x + dx - a) > _ROOM or abs(y + dy - b) > _ROOM for a, b in taken)]
        dx, dy = (free or _BESIDE)[0]
        taken.append((x + dx, y + dy))
        axes.annotate(str(spot.number), (spot.x, spot.y), (dx, dy), textcoords="offset points", ha="center", va="center", fontsize=8.5)


def _widen(axes: Axes, values: Sequence[float]) -> None:
    """A range that shows all values, zero among them, and is never empty."""
    low, high = min(values), max(values)
    spare = 0.06 * (high - low) or 1.0
    axes.set_xlim(low - spare, high + spare)


def _signed(value: float, _: Any) -> str:
    return "0" if abs(value) < 1e-12 else f"{value:+g}".replace("-", "−")


def _short(value: float, percent: bool) -> str:
    return f"{100 * value:.1f} %" if percent else f"{value:.4g}"


def _of(value: float | None) -> float:
    assert value is not None
    return value
