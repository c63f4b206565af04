"""Interaction plots of a factorial design: two factors at a time, a line for each level of the second. Torch-free."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from ibllm_report.comparisons import Curve, Point, curves
from ibllm_report.plots import Plot

from .analysis import Analysis
from .claims import cell_values
from .statistics import summarise
from .statistics.factorial import Design, mean_if_whole


def interactions(analysis: Analysis) -> list[Plot]:
    """One plot a pair of factors whose interaction is among the effects, of the primary figure; none for what is no factorial design."""
    design = analysis.findings.factorial
    if design is None:
        return []
    tested = [effect.factors for effect in design.effects if len(effect.factors) == 2]
    pairs = [pair for pair in itertools.combinations(design.factors, 2) if pair in tested]
    return [_plot(analysis, design, pair) for pair in pairs]


def _plot(analysis: Analysis, design: Design, pair: tuple[str, str]) -> Plot:
    figure = analysis.findings.primary
    values, unit = cell_values(analysis.findings, figure), analysis.units[figure]
    across, lines = pair
    found = []
    for slot, (high, word) in enumerate(((False, "without"), (True, "with"))):
        points = []
        for x in (False, True):
            cells = [cell for cell in design.cells if design.levels(cell)[across] == x and design.levels(cell)[lines] == high]
            mean = summarise(_by_seed(values, cells), analysis.findings.confidence)
            if mean.mean is not None:
                points.append(Point(float(x), mean.mean, mean.low, mean.high))
        if points:
            found.append(Curve(f"{word} {lines}", points, slot))
    names = {0.0: f"without {across}", 1.0: f"with {across}"}
    return curves(f"{across} × {lines}", found, percent=unit.percent, xlabel=f"{unit.label}, means of cells", at=tuple(names), names=names)


def _by_seed(values: Mapping[tuple[bool, ...], Mapping[int, float | None]], cells: Sequence[tuple[bool, ...]]) -> list[float | None]:
    """Each seed's mean over some cells; None where one lacks it."""
    seeds = sorted({seed for own in values.values() for seed in own})
    return [mean_if_whole([values[cell].get(seed) for cell in cells]) for seed in seeds]
