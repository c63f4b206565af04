"""Which plots an analysis gives. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from ibllm_core.recipe.schema import Training
from ibllm_report import charts as of_a_run
from ibllm_report.comparisons import SLOTS, Curve, Estimate, Point, Spot, curves, forest, trade_off
from ibllm_report.files import RunFiles, objects
from ibllm_report.plots import Plot
from ibllm_report.results import is_number, split_of

from . import wording
from .analysis import Analysis
from .schema import ALL_PAIRS
from .statistics import summarise

_ABOUT_A_ROW = frozenset({"step", "stage", "time", "kind"})


def decided(analysis: Analysis, figure: str) -> Plot | None:
    """A forest plot of a figure that the study decides by, with the numbers beside it; None where there is nothing."""
    found, unit = analysis.findings, analysis.units[figure]
    factor = 100.0 if unit.percent else 1.0
    estimates = []
    for claim in analysis.claims:
        if claim.figure != figure:
            continue
        c = claim.comparison
        low, value, high = (None if v is None else factor * v for v in (c.low_all, c.difference, c.high_all))
        points = [factor * value for value in claim.by_seed.values()]
        estimates.append(Estimate(claim.label, value, low, high, points, wording.difference(unit, c)))
    if all(estimate.value is None for estimate in estimates):
        return None
    pairs = found.rules.against == ALL_PAIRS
    what = "effect" if found.factorial is not None else "difference" if pairs else f"difference to {found.control.name}"
    xlabel = what + (f", {unit.of_differences}" if unit.of_differences else "")
    # An interaction is neither good nor bad.
    right_is = "" if found.factorial is not None else "better" if found.direction(figure) == "max" else "worse"
    return forest(f"{split_of(figure)[0] or 'all'}: {unit.label}", estimates, xlabel=xlabel, wide=True, right_is=right_is)


def differences(analysis: Analysis, figure: str) -> Plot | None:
    """A forest plot of one figure's differences to the base, which decide nothing; None where no arm has one."""
    unit = analysis.units[figure]
    factor = 100.0 if unit.percent else 1.0
    control = analysis.findings.control
    base = control.values(figure)
    estimates = []
    for arm in analysis.findings.arms:
        if arm is control:
            continue
        comparison = analysis.line(arm, figure).comparison
        assert comparison is not None
        values = arm.values(figure)
        points = [factor * ((values[seed] or 0.0) - (base[seed] or 0.0)) for seed in comparison.seeds]
        low, value, high = (None if v is None else factor * v for v in (comparison.low_all, comparison.difference, comparison.high_all))
        estimates.append(Estimate(arm.name, value, low, high, points, wording.difference(unit, comparison)))
    if all(estimate.value is None for estimate in estimates):
        return None
    split = split_of(figure)[0]
    xlabel = f"difference to {control.name}" + (f", {unit.of_differences}" if unit.of_differences else "")
    return forest(f"{split or 'all'}: {unit.label}", estimates, xlabel=xlabel)


@attrs.frozen(kw_only=True)
class StageCurves:
    """The learning curves of one stage, over its steps (``by`` is ``steps``), training FLOPs or seconds."""

    stage: str
    by: str
    plots: Sequence[Plot]


#: What curves may be drawn over, and its name below them.
AXES = {"steps": "step of the stage", "flops": "training FLOPs of the stage", "seconds": "seconds of the stage"}


def learning(analysis: Analysis, files: Mapping[Path, RunFiles]) -> list[StageCurves]:
    """Validation figures within each stage: the arms' means with intervals over their finished runs, over each of `AXES` that the runs know.

    A curve has the steps that all of the arm's finished runs have which were in the stage: it ends where the first of them stopped. FLOPs and seconds
    are those of a mean step of the arm in the stage.
    """
    found: dict[str, dict[str, dict[str, list[dict[float, float]]]]] = {}
    for arm in analysis.findings.arms:
        for run in arm.done:
            for (stage, figure), course in _courses(files[run.path]).items():
                found.setdefault(stage, {}).setdefault(figure, {}).setdefault(arm.name, []).append(course)
    out = []
    for stage, by_figure in found.items():
        for by in AXES:
            factors = {arm.name: _cost_of_a_step([files[run.path] for run in arm.done], stage, by) for arm in analysis.findings.arms}
            known = {arm: factor for arm, factor in factors.items() if factor is not None}
            shown = {figure: {arm: courses for arm, courses in by_arm.items() if arm in known} for figure, by_arm in by_figure.items()}
            plots = [
                plot
                for figure, by_arm in shown.items()
                if by_arm
                for plot in _stage_plots(analysis, stage, figure, by_arm, AXES[by], known)
            ]
            if plots:
                out.append(StageCurves(stage=stage, by=by, plots=plots))
    return out


def _cost_of_a_step(runs: Sequence[RunFiles], stage: str, by: str) -> float | None:
    """What a step of a stage took on average over runs; None where none of them says. Runs that say are those that were in the stage."""
    if by == "steps":
        return 1.0
    found = []
    for files in runs:
        done = sum(float(entry.get("done") or 0) for entry in objects(files.run.get("stages")) if entry.get("name") == stage)
        seconds, flops = files.run.get("timings"), files.run.get("item_flops")
        if by == "seconds" and isinstance(seconds, Mapping) and is_number(seconds.get(stage)) and done:
            found.append(float(seconds[stage]) / done)
        elif by == "flops" and isinstance(flops, Mapping) and is_number(flops.get(stage)):
            found.append(float(flops[stage]) * _batch(files, stage))
    return math.fsum(found) / len(found) if found else None


def _batch(files: RunFiles, stage: str) -> int:
    """Items of a step: the stage's own number, the recipe's, or the default."""
    stages = files.recipe.get("stages")
    own = stages.get(stage) if isinstance(stages, Mapping) else None
    for table in (own, files.recipe):
        training = table.get("training") if isinstance(table, Mapping) else None
        if isinstance(training, Mapping) and "batch" in training:
            return int(training["batch"])
    return Training().batch


def _courses(files: RunFiles) -> dict[tuple[str, str], dict[float, float]]:
    """(stage, figure) → step within the stage → value."""
    starts = {band.label: band.start for band in of_a_run.bands(files)}
    out: dict[tuple[str, str], dict[float, float]] = {}
    for row in files.of_kind("validation"):
        stage = str(row.get("stage"))
        for key, value in row.items():
            if key not in _ABOUT_A_ROW and is_number(value):
                out.setdefault((stage, key), {})[float(row["step"]) - starts.get(stage, 0.0)] = float(value)
    return out


def _stage_plots(
    analysis: Analysis,
    stage: str,
    figure: str,
    by_arm: Mapping[str, Sequence[Mapping[float, float]]],
    xlabel: str,
    factors: Mapping[str, float],
) -> list[Plot]:
    """The base beside up to five arms in each plot; an arm has its colour and marker from its place in the study."""
    about, beside = analysis.findings.glossary.figure(figure), SLOTS - 1
    drawn: dict[int, list[Curve]] = {}
    for place, arm in enumerate(analysis.findings.arms):
        courses = by_arm.get(arm.name, ())
        factor, confidence = factors.get(arm.name, 1.0), analysis.findings.confidence
        points = [_point(step, factor, [course[step] for course in courses], confidence) for step in _common(courses)]
        if points and (same := next((curve for own in drawn.values() for curve in own if curve.points == points), None)):
            # Arms that share a stage have one curve, on which the later would hide the earlier.
            same.label += f" = {arm.name}"
        elif points:
            drawn.setdefault((place - 1) // beside, []).append(Curve(arm.name, points, 1 + (place - 1) % beside if place else 0))
    base = drawn.pop(-1, [])
    parts = [[*base, *part] for part in drawn.values()] or [base]
    return [
        curves(
            f"{about.full_label}, stage {stage}"
            + ("" if xlabel == AXES["steps"] else f", over {xlabel.partition(' of ')[0]}")
            + (f" ({number} of {len(parts)})" if len(parts) > 1 else ""),
            part,
            percent=about.percent,
            xlabel=xlabel,
        )
        for number, part in enumerate(parts, 1)
        if part
    ]


def _common(courses: Sequence[Mapping[float, float]]) -> list[float]:
    return sorted(set(courses[0]).intersection(*courses[1:])) if courses else []


def _point(step: float, factor: float, values: Sequence[float], confidence: float) -> Point:
    found = summarise(values, confidence)
    assert found.mean is not None
    return Point(step * factor, found.mean, found.low, found.high)


#: Unit of a cost → how large a cost has to be for it, and the factor.
_FLOPS = ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1.0, "FLOP"))
_SECONDS = ((7200.0, 3600.0, "hours"), (300.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


def pareto(analysis: Analysis) -> list[Plot]:
    """The primary figure against each cost that at least two arms have."""
    out = []
    for name, what in (("flops", "training compute"), ("seconds", "training time"), ("parameters", "parameters")):
        costs = {arm: cost for arm, found in analysis.costs.items() if (cost := getattr(found, name)) is not None and cost > 0}
        costs = {arm: cost for arm, cost in costs.items() if analysis.lines[arm, analysis.findings.primary].summary.mean is not None}
        if len(costs) > 1 and (name != "parameters" or len(set(costs.values())) > 1):
            out.append(_pareto(analysis, name, what, costs))
    return out


def _pareto(analysis: Analysis, name: str, what: str, costs: Mapping[str, float]) -> Plot:
    factor, in_units = _scale(name, max(costs.values()))
    unit, primary = analysis.units[analysis.findings.primary], analysis.findings.primary
    by = 100.0 if unit.percent else 1.0
    sign = 1 if analysis.findings.mode == "max" else -1
    means = {arm: by * (analysis.lines[arm, primary].summary.mean or 0.0) for arm in costs}
    spots, places = [], [arm.name for arm in analysis.findings.arms]
    for arm, cost in costs.items():
        summary = analysis.lines[arm, primary].summary
        low, high = (None if end is None else by * end for end in (summary.low, summary.high))
        best = not any(dominates((costs[other], sign * means[other]), (cost, sign * means[arm])) for other in costs)
        spots.append(Spot(places.index(arm) + 1, arm, cost / factor, means[arm], low, high, best))
    return trade_off(
        f"{unit.label} against {what}",
        spots,
        xlabel=f"{what} ({in_units})" if in_units else what,
        ylabel=f"{unit.label}{f' ({unit.unit})' if unit.unit else ''}",
        percent=unit.percent,
    )


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether (cost, quality) `one` is no worse in both and better in one."""
    return one[0] <= other[0] and one[1] >= other[1] and one != other


def _scale(name: str, largest: float) -> tuple[float, str]:
    if name == "seconds":
        return next((factor, unit) for least, factor, unit in _SECONDS if largest >= least)
    if name == "flops":
        return next(((factor, unit) for factor, unit in _FLOPS if largest >= factor), (1.0, "FLOP"))
    return (1e6, "millions") if largest >= 1e6 else (1.0, "")
