"""Findings → what can be said: means, comparisons with the base, costs. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TypeVar

import attrs

from ibllm_report.results import is_number, split_of

from .claims import make_claims
from .findings import Findings, FoundArm, FoundRun
from .matched import Matched, matched
from .schema import ALL_PAIRS
from .statistics import (
    Aggregate,
    Comparison,
    PowerPrediction,
    Summary,
    compare,
    interquartile_mean,
    is_large,
    predict_power,
    probability_of_improvement,
    summarise,
)


@attrs.frozen(kw_only=True)
class Unit:
    """How a figure's numbers are written: the same decimals for all arms, so that they can be compared down a column.

    Attributes:
        label: what the figure is, in words, with its caution.
        percent: fractions are shown × 100.
        own: the figure's own unit, where it has one.
    """

    label: str
    percent: bool
    decimals: int
    own: str = ""

    def number(self, value: float, sign: bool = False) -> str:
        """0.9316 → ``93.2``; with a sign, −0.021 → ``−2.1``."""
        text = f"{value * (100 if self.percent else 1):{'+' if sign else ''}.{self.decimals}f}"
        if float(text) == 0:
            text = text.lstrip("+-")
        return text.replace("-", "−")

    @property
    def unit(self) -> str:
        return "%" if self.percent else self.own

    @property
    def of_differences(self) -> str:
        return "percentage points" if self.percent else self.own


@attrs.frozen(kw_only=True)
class Line:
    """One figure of one arm. `comparison` is with the base, None for the base itself; it is corrected where it is a claim (`Analysis.claims`)."""

    arm: str
    figure: str
    summary: Summary
    comparison: Comparison | None


@attrs.frozen(kw_only=True)
class Cost:
    """What an arm's runs cost: means over its finished runs; None where no run says.

    Attributes:
        parameters: of all parts.
        flops: of training.
        seconds: of training, evaluation left out.
        memory: peak, in bytes.
    """

    parameters: float | None
    flops: float | None
    seconds: float | None
    memory: float | None


@attrs.frozen(kw_only=True)
class Overall:
    """A large design in two numbers an arm, over the fractions of the primary figure's split (Agarwal et al. 2021)."""

    arm: str
    mean: Aggregate
    improvement: Aggregate | None


class Analysis:
    """All that tables, plots and the page are made of.

    Attributes:
        claims: the comparisons by which the study decides.
        lines: (arm, figure) → what is to be said of it.
        foresight: what so many seeds could show, which was known before the first run.
    """

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.figures: Sequence[str] = findings.figures
        self.claims = make_claims(findings, self._within)
        self.foresight: PowerPrediction = predict_power(len(findings.seeds), len(self.claims), findings.confidence)
        self.lines: dict[tuple[str, str], Line] = {}
        for figure in self.figures:
            self._add(figure)
        self.costs: Mapping[str, Cost] = {arm.name: cost_of_arm(arm) for arm in findings.arms}

    def _add(self, figure: str) -> None:
        findings = self.findings
        simple = findings.factorial is None and findings.rules.against != ALL_PAIRS
        decided = {claim.label: claim.comparison for claim in self.claims if claim.figure == figure and simple}
        for arm in findings.arms:
            summary = summarise([value for seed, value in arm.values(figure).items() if arm.runs[seed].done], findings.confidence)
            if self._bounded(figure):
                summary = within(summary, 0.0, "low", "high")
            comparison = None if arm is findings.control else decided.get(arm.name) or self._explored(arm, figure)
            self.lines[arm.name, figure] = Line(arm=arm.name, figure=figure, summary=summary, comparison=comparison)

    def _explored(self, arm: FoundArm, figure: str) -> Comparison:
        """An arm's difference to the control in a figure that decides nothing; which way is better is not known."""
        findings = self.findings
        found = compare(findings.control.values(figure), arm.values(figure), findings.confidence)
        if findings.searched or figure in findings.primaries:
            # Points of a search were chosen by these figures; of a factorial design effects are tested, not cells, and of all pairs each.
            found = attrs.evolve(found, p_t=None, p_permutation=None, note="")
        return self._within(figure, found)

    def _within(self, figure: str, comparison: Comparison) -> Comparison:
        return within(comparison, -1.0, "low", "high", "low_all", "high_all") if self._bounded(figure) else comparison

    def _bounded(self, figure: str) -> bool:
        """Whether it is a fraction: shown in percent, and within [0, 1] in every run."""
        found = [value for arm in self.findings.arms for value in arm.values(figure).values() if value is not None]
        return self.findings.glossary.figure(split_of(figure)[1]).percent and all(0 <= value <= 1 for value in found)

    def distinct(self) -> list[list[str]]:
        """The secondary figures; those that are equal in every run are one entry."""
        found: dict[tuple[object, ...], list[str]] = {}
        for figure in self.figures[len(self.findings.primaries) :]:
            values = tuple(value for arm in self.findings.arms for value in arm.values(figure).values())
            known = values if any(value is not None for value in values) else (figure,)
            found.setdefault((*known, self.units[figure].percent, self.units[figure].own), []).append(figure)
        return list(found.values())

    def line(self, arm: FoundArm, figure: str) -> Line:
        return self.lines[arm.name, figure]

    @cached_property
    def matched(self) -> Mapping[str, Sequence[Matched]]:
        """Primary figure → its readings at equal cost."""
        return {figure: matched(self.findings, figure) for figure in self.findings.primaries}

    @cached_property
    def units(self) -> Mapping[str, Unit]:
        """How each figure is written."""
        return {figure: self._unit(figure) for figure in self.figures}

    def _unit(self, figure: str) -> Unit:
        about = self.findings.glossary.figure(split_of(figure)[1])
        own = [line.summary for (_, name), line in self.lines.items() if name == figure]
        spreads = sorted(summary.sd for summary in own if summary.sd)
        factor = 100 if about.percent else 1
        if spreads:
            # Two digits of the spread are all that the figure is known to.
            decimals = 1 - math.floor(math.log10(factor * spreads[len(spreads) // 2]))
        else:
            largest = max((abs(summary.mean) for summary in own if summary.mean), default=1.0)
            decimals = 2 - math.floor(math.log10(factor * largest))
        decimals = min(max(decimals, 1 if about.percent else 0), 2 if about.percent else 6)
        return Unit(label=about.full_label, percent=about.percent, decimals=decimals, own=about.unit)

    @cached_property
    def overall(self) -> Sequence[Overall]:
        """Interquartile mean and probability of improvement, where every arm has the runs for their intervals; else nothing."""
        split = split_of(self.findings.primary)[0]
        own = [figure for figure in self.figures if split_of(figure)[0] == split and self._counts(figure)]
        if len(own) < 2 or self.findings.mode != "max" or not all(is_large(len(arm.done)) for arm in self.findings.arms):
            return []
        # Row by row the same seed, for arms of loose runs need not have the same ones.
        seeds = sorted({seed for arm in self.findings.arms for seed in arm.runs})
        tables = {arm.name: [_row(arm, seed, own) for seed in seeds] for arm in self.findings.arms}
        base, confidence = self.findings.base.name, self.findings.confidence
        return [
            Overall(
                arm=name,
                mean=interquartile_mean([row for row in table if any(value is not None for value in row)], confidence),
                improvement=None if name == base else probability_of_improvement(tables[base], table, confidence),
            )
            for name, table in tables.items()
        ]

    def _counts(self, figure: str) -> bool:
        """Whether it is a fraction that needs no caution."""
        about = self.findings.glossary.figure(split_of(figure)[1])
        return about.percent and not about.caution

    def counted(self, arm: FoundArm, figure: str) -> str:
        """Runs that count, of those that were meant: ``7 of 8``, or ``8``."""
        n, of = self.line(arm, figure).summary.n, len(arm.runs)
        return str(n) if n == of else f"{n} of {of}"


S = TypeVar("S", Summary, Comparison)


def within(found: S, least: float, *ends: str) -> S:
    """With ends of intervals no further than `least` and 1: what lies beyond no fraction can be, so coverage stays what it is."""
    known = {name: end for name in ends if (end := getattr(found, name)) is not None}
    return attrs.evolve(found, **{name: min(max(end, least), 1.0) for name, end in known.items()})


def _row(arm: FoundArm, seed: int, figures: Sequence[str]) -> list[float | None]:
    run = arm.runs.get(seed)
    return [None if run is None else run.results.get(figure) for figure in figures]


def cost_of_arm(arm: FoundArm) -> Cost:
    """Means over the arm's finished runs."""
    runs = [run_cost(run) for run in arm.done]
    return Cost(**{name: _mean([getattr(cost, name) for cost in runs]) for name in ("parameters", "flops", "seconds", "memory")})


def run_cost(run: FoundRun) -> Cost:
    """What run.json says a run cost."""
    info = run.info
    parts, timings, memory = info.get("parts"), info.get("timings"), info.get("memory")
    counted = [part.get("parameters") for part in parts if isinstance(part, Mapping)] if isinstance(parts, list) else []
    seconds = (
        [value for name, value in timings.items() if name not in ("listeners/rehearsal", "evaluation")]
        if isinstance(timings, Mapping)
        else []
    )
    return Cost(
        parameters=_sum(counted),
        flops=_number(info.get("training_flops")),
        seconds=_sum(seconds),
        memory=_number(memory.get("peak_bytes")) if isinstance(memory, Mapping) else None,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and is_number(value) else None


def _sum(values: Sequence[object]) -> float | None:
    known = [number for number in map(_number, values) if number is not None]
    return math.fsum(known) if known else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
