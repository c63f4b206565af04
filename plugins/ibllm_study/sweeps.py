"""A grid's figures as curves: an axis from left to right, a line for each family of arms, a plot for each split."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from ibllm_core.recipe.words import written
from ibllm_report.comparisons import SLOTS, Curve, Point, curves
from ibllm_report.plots import Plot
from ibllm_report.results import is_number, split_of

from .statistics import summarise

if TYPE_CHECKING:
    from .analysis import Analysis
    from .findings import FoundArm
    from .plan import Plan
    from .schema import Arm


@attrs.frozen(kw_only=True)
class Sweep:
    """Plots of one figure over one axis, the other axes standing where `title` says; one plot a split."""

    title: str
    figure: str
    plots: Sequence[Plot]


def place_in_grid(plan: Plan, arm: Arm) -> tuple[str, Mapping[str, Any]]:
    """An arm's family, the variant that it is or the base, and its value on every axis of the grid; nothing where the study is none."""
    from ibllm.resolved import resolved

    if plan.study.table.design != "grid":
        return "", {}
    tables: Any = resolved(plan.cell(arm.name, plan.study.seeds[0]).recipe)
    point = {}
    for axis in plan.study.axes:
        value = tables
        for step in axis.key.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        # What has no place among the options, a whole component for instance, is known where the arm says it.
        point[axis.key] = arm.changes.get(axis.key, value)
    own = {key: value for key, value in arm.changes.items() if key not in point}
    return next((variant.name for variant in plan.study.variants if variant.changes == own), plan.arms[0].name), point


def sweeps(analysis: Analysis) -> list[Sweep]:
    """Of every share of right items without a caution, over every axis of numbers; empty for what is no grid."""
    arms = [arm for arm in analysis.findings.arms if arm.point]
    keys = list(dict.fromkeys(key for arm in arms for key in arm.point))
    names = list(dict.fromkeys(split_of(figure)[1] for figure in analysis.figures))
    about = {name: analysis.findings.glossary.figure(name) for name in names}
    shown = [name for name in names if about[name].counted and about[name].percent and not about[name].caution]
    found = []
    for axis, name in itertools.product(keys, shown):
        xs = sorted({arm.point[axis] for arm in arms if is_number(arm.point[axis])})
        if len(xs) < 2:
            continue
        others = [key for key in keys if key != axis]
        rests = sorted({tuple(arm.point[key] for key in others) for arm in arms}, key=lambda rest: [(not is_number(v), v) for v in rest])
        for rest in rests:
            group = [arm for arm in arms if tuple(arm.point[key] for key in others) == rest and is_number(arm.point[axis])]
            plots = [
                plot for figure in analysis.figures if split_of(figure)[1] == name for plot in _plots(analysis, figure, axis, group, xs)
            ]
            where = ", ".join(f"{key} = {written(value)}" for key, value in zip(others, rest, strict=True))
            if plots:
                found.append(Sweep(title=f"{about[name].label} by {axis}" + (f", {where}" if where else ""), figure=name, plots=plots))
    return found


def _plots(analysis: Analysis, figure: str, axis: str, arms: Sequence[FoundArm], xs: Sequence[float]) -> list[Plot]:
    """A split's plots: one, or several where there are more families than a plot distinguishes; none where fewer than two points are known."""
    families = list(dict.fromkeys(arm.family for arm in analysis.findings.arms))
    drawn: dict[int, list[Curve]] = {}
    for place, family in enumerate(families):
        points = []
        for arm in sorted((arm for arm in arms if arm.family == family), key=lambda arm: float(arm.point[axis])):
            values = [value for value in arm.values(figure).values() if value is not None]
            if values:
                summary = summarise(values, analysis.findings.confidence)
                assert summary.mean is not None
                points.append(Point(float(arm.point[axis]), summary.mean, summary.low, summary.high))
        if points:
            drawn.setdefault(place // SLOTS, []).append(Curve(family, points, place % SLOTS))
    split = split_of(figure)[0]
    what = analysis.findings.glossary.splits.get(split, "")
    title = f"{split or 'all'}" + (f": {what}" if what else "")
    known = {point.x for part in drawn.values() for curve in part for point in curve.points}
    return [curves(title, part, percent=True, xlabel=axis, at=xs, whole=True) for part in drawn.values() if len(known) > 1]
