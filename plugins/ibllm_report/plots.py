"""Plots as inline SVG that takes its colours and its font from the page, so that light and dark both work.

matplotlib gets placeholder colours; in the SVG they become CSS: text ``currentColor``, lines ``var(--line)``, series ``var(--s1)`` and on.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: More series could not be distinguished: callers split them over several plots.
MARKERS = ("o", "s", "^", "D", "v", "P")
GLYPHS = ("●", "■", "▲", "◆", "▼", "✚")
#: More points than a plot of this width can show are averaged in so many bins.
MOST_POINTS = 160

TEXT, LINE = "#a000f1", "#a000f2"
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.0,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.alpha": 0.55,
    "grid.linewidth": 0.6,
}


@attrs.frozen
class Series:
    """One line in pieces, one a stage: each a list of (x, y), x a step or the place of a stage. The points `ringed` get a ring."""

    label: str
    pieces: Sequence[Sequence[tuple[float, float]]]
    ringed: Sequence[tuple[float, float]] = ()

    @property
    def values(self) -> list[float]:
        return [y for piece in self.pieces for _, y in piece]


@attrs.frozen
class Band:
    """A stage's stretch of steps; at `marks` something was turned."""

    label: str
    start: float
    end: float
    marks: Sequence[float] = ()


@attrs.frozen
class Plot:
    """A plot for the page. `legend` is (glyph, number of the series' colour, label); empty where the title says it all."""

    title: str
    svg: Markup
    legend: Sequence[tuple[str, int, str]] = ()


def lines(title: str, series: Sequence[Series], bands: Sequence[Band], *, percent: bool = False, markers: bool = False) -> Plot:
    """Figures over global steps, stages as bands. The y axis is logarithmic where positive values span decades."""
    assert len(series) <= len(MARKERS), "split them over several plots"
    from matplotlib.ticker import MaxNLocator

    with canvas(title) as (figure, axes):
        _draw_bands(axes, bands)
        for k, one in enumerate(series):
            for piece in one.pieces:
                x, y = zip(*(piece if markers else downsampled(piece)), strict=True)
                axes.plot(
                    x,
                    y,
                    color=colour(k),
                    linewidth=1.5,
                    marker=MARKERS[k] if markers or len(x) == 1 else None,
                    markersize=4,
                    clip_on=False,
                )
            for ringed_x, ringed_y in one.ringed:
                axes.plot([ringed_x], [ringed_y], marker="o", markersize=9, markerfacecolor="none", markeredgecolor=TEXT, clip_on=False)
        values = [value for one in series for value in one.values]
        if not percent and spans_decades(values):
            axes.set_yscale("log")
        finish(axes, values, percent)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        return Plot(title, to_svg(figure, _described(title, series, percent)), _legend(series))


def stages(title: str, names: Sequence[str], series: Sequence[Series], *, percent: bool) -> Plot:
    """Figures after each stage: x is a stage's place in `names`; the values themselves stand in the table beside it."""
    assert len(series) <= len(MARKERS), "split them over several plots"
    with canvas(title) as (figure, axes):
        axes.margins(x=0.1)
        for k, one in enumerate(series):
            x, y = zip(*(point for piece in one.pieces for point in piece), strict=True)
            axes.plot(x, y, color=colour(k), linewidth=1.2, linestyle=(0, (2, 2)), marker=MARKERS[k], markersize=6)
        axes.set_xticks(range(len(names)), names)
        finish(axes, [value for one in series for value in one.values], percent)
        return Plot(title, to_svg(figure, _described(title, series, percent)), _legend(series))


def downsampled(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of neighbouring points where there are more than a plot can show."""
    size = math.ceil(len(points) / MOST_POINTS)
    if size <= 1:
        return list(points)
    parts = [points[k : k + size] for k in range(0, len(points), size)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


@contextmanager
def canvas(name: str, size: tuple[float, float] = (3.9, 2.4)) -> Iterator[tuple[Figure, Axes]]:
    """A figure and its axes under the page's style, `size` in inches. No global state of pyplot is touched."""
    import matplotlib
    from matplotlib.figure import Figure

    # Salted with the title, the ids of one plot's clip paths never meet another plot's on the page.
    style: Any = {**_STYLE, "svg.hashsalt": name}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        yield figure, figure.add_subplot()


def colour(k: int) -> str:
    """What becomes the colour of the page's series k + 1."""
    return f"#a0000{k + 1}"


def _draw_bands(axes: Axes, bands: Sequence[Band]) -> None:
    if not bands:
        return
    whole = max(bands[-1].end - bands[0].start, 1.0)
    axes.set_xlim(bands[0].start, bands[0].start + whole)
    for k, band in enumerate(bands):
        if k % 2:
            axes.axvspan(band.start, band.end, facecolor=LINE, alpha=0.28, linewidth=0)
        if k:
            axes.axvline(band.start, color=LINE, linewidth=1.0)
        for step in band.marks:
            axes.axvline(step, color=TEXT, linewidth=0.8, linestyle=(0, (4, 2)), alpha=0.7)
        narrow = (band.end - band.start) / whole < 0.04 + 0.024 * len(band.label)
        last = k == len(bands) - 1
        if not narrow or last:
            place, side = (band.end, "right") if narrow else ((band.start + band.end) / 2, "center")
            axes.annotate(
                band.label,
                (place, 1.0),
                (0, 3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha=side,
                va="bottom",
                fontsize=8.5,
            )


def finish(axes: Axes, values: Sequence[float], percent: bool) -> None:
    """The y axis of figures: all of 0–100 %, or labels that an SVG font can show and a range that is not empty."""
    if percent:
        axes.set_ylim(-0.02, 1.04)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    elif axes.get_yscale() == "log":
        # matplotlib's own labels of decades are mathematics, which an SVG font cannot show.
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: "")
    elif max(values) - min(values) < 1e-9 * max(1.0, abs(max(values))):
        axes.set_ylim(values[0] - (abs(values[0]) or 1.0) / 2, values[0] + (abs(values[0]) or 1.0) / 2)
    axes.tick_params(length=3)


def spans_decades(values: Sequence[float]) -> bool:
    """Whether the bulk of the values spans more than 30 times; single values next to zero do not make it so."""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 20], ordered[-1 - len(ordered) // 20]
    return ordered[0] > 0 and high > 30 * low


def _legend(series: Sequence[Series]) -> list[tuple[str, int, str]]:
    return [(GLYPHS[k], k + 1, one.label) for k, one in enumerate(series)] if len(series) > 1 else []


def _described(title: str, series: Sequence[Series], percent: bool) -> str:
    def text(value: float) -> str:
        return f"{100 * value:.1f} %" if percent else f"{value:.4g}"

    ends = [f"{one.label}: from {text(one.values[0])} to {text(one.values[-1])}" for one in series]
    return f"Plot. {title}. {'; '.join(ends)}."


def to_svg(figure: Figure, description: str) -> Markup:
    """The drawing for the page, placeholders turned into its colours; the description is what a screen reader says."""
    out = io.StringIO()
    with warnings.catch_warnings():
        # Fonts are the page's; that matplotlib's own lacks a glyph only costs the exact width of a label.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(out, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style[^>]*>.*?</style>|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="(?![mp][0-9a-f]{10}")[^"]*"', "", text)
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    text = re.sub(r"(fill|stroke): #a0000(\d)", r"\1: var(--s\2)", text)
    text = text.replace(f": {TEXT}", ": currentColor").replace(f": {LINE}", ": var(--line)")
    text = text.replace("xlink:href", "href")
    text = re.sub(r"\s+", " ", text).replace("> <", "><")
    size = re.search(r'viewBox="([^"]*)"', text)
    assert size is not None
    return Markup('<svg viewBox="{}" role="img" aria-label="{}">').format(size[1], description) + Markup(text[text.index(">") + 1 :])
