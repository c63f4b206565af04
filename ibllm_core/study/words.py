"""Numbers of an analysis in words, alike in every table: intervals, differences, p-values. Torch-free."""

from __future__ import annotations

from .analysis import Analysis, Line, Unit
from .statistics import Comparison, Summary

NONE = "—"
TOO_FEW = "too few seeds to say"


def interval(unit: Unit, low: float | None, high: float | None, sign: bool = False) -> str:
    """``[91.0, 95.1]``; empty where there is none."""
    return "" if low is None or high is None else f"[{unit.number(low, sign)}, {unit.number(high, sign)}]"


def mean(unit: Unit, summary: Summary) -> str:
    """``93.2 [91.0, 95.4]``."""
    if summary.mean is None:
        return NONE
    return f"{unit.number(summary.mean)} {interval(unit, summary.low, summary.high)}".rstrip()


def mean_and_half(unit: Unit, summary: Summary) -> str:
    """``93.2 ± 2.2``, the half of a t-interval; an interval that is not symmetric is written out."""
    if summary.mean is None or summary.high is None or summary.method != "t":
        return mean(unit, summary)
    return f"{unit.number(summary.mean)} ± {unit.number(summary.high - summary.mean)}"


def difference(unit: Unit, comparison: Comparison | None) -> str:
    """``−2.3 [−4.0, −0.6]``."""
    if comparison is None or comparison.difference is None:
        return NONE
    return f"{unit.number(comparison.difference, sign=True)} {interval(unit, comparison.low, comparison.high, sign=True)}".rstrip()


def p_value(p: float | None) -> str:
    """Two digits, and no more than can be believed: ``0.031``, ``< 0.001``."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.4f}" if p < 0.00995 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def p_values(comparison: Comparison | None) -> tuple[str, str]:
    """Of the t-test and of the sign-flip test, corrected; the first in words where these seeds cannot say, the second then empty."""
    if comparison is None:
        return NONE, NONE
    if comparison.p_permutation is None:
        return ("no common seed" if not comparison.n else TOO_FEW), ""
    if comparison.too_few:
        return TOO_FEW, ""
    corrected = comparison.p_t_holm if comparison.family > 1 else comparison.p_t
    flipped = comparison.p_permutation_holm if comparison.family > 1 else comparison.p_permutation
    return p_value(corrected), p_value(flipped)


def effect(comparison: Comparison | None) -> str:
    """Hedges' g of the paired differences."""
    return NONE if comparison is None or comparison.g_z is None else f"{comparison.g_z:+.2f}".replace("-", "−")


def primary_lines(analysis: Analysis) -> list[Line]:
    """The primary figure's lines, in the study's order."""
    return [analysis.line(arm, analysis.findings.primary) for arm in analysis.findings.arms]


def headline(analysis: Analysis) -> str:
    """What the primary figure is, of how many seeds, and which way is better."""
    found, unit = analysis.findings, analysis.units[analysis.findings.primary]
    which = "less" if found.mode == "min" else "more"
    told = "" if found.chosen else ", not named beforehand"
    in_units = f", in {unit.unit}" if unit.unit else ""
    return f"{unit.label} ({found.primary}{told}){in_units}; {which} is better; {len(found.seeds)} seeds, {100 * found.confidence:g} % intervals"


def notes(analysis: Analysis) -> list[str]:
    """What must be known to read the primary table: how it was made, what these seeds could show, what is missing."""
    found = analysis.findings
    lines = [line.comparison for line in primary_lines(analysis) if line.comparison is not None]
    family = max((comparison.family for comparison in lines), default=1)
    exact = all(comparison.exact for comparison in lines)
    out = [
        f"Differences are to {found.base.name!r}, paired by seed; intervals are {_methods(analysis)}.",
        "p: two-sided paired t-test and "
        + ("exact sign-flip test" if exact else "sign-flip test")
        + (
            f", Holm-corrected over the {family} comparisons of the primary figure."
            if family > 1
            else "; a single comparison, uncorrected."
        ),
        *analysis.foresight.sentences(),
    ]
    if not found.chosen:
        out.append("The primary figure was not named (--primary), so it counts as chosen after the fact: read the p-values as exploratory.")
    out += [
        f"{line.arm}: {line.comparison.note}." for line in primary_lines(analysis) if line.comparison and _worth_saying(line.comparison)
    ]
    missing = [
        f"{arm.name} seed {run.seed}: {run.status}" + (f" ({run.reason})" if run.reason else "") for arm, run in found.runs if not run.done
    ]
    if missing:
        out.append(
            f"{len(missing)} of {len(found.runs)} runs have no figures: "
            + "; ".join(missing[:8])
            + ("; …" if len(missing) > 8 else "")
            + "."
        )
    return out


def _worth_saying(comparison: Comparison) -> bool:
    """Whether a note says more than that these seeds are too few, which the table says and the foresight explains."""
    return bool(comparison.note) and not comparison.note.startswith(TOO_FEW)


def _methods(analysis: Analysis) -> str:
    used = {line.summary.method for line in primary_lines(analysis) if line.summary.method}
    names = {"t": "Student's t", "BCa bootstrap": "BCa bootstraps of means and Student's t of differences"}
    return names["BCa bootstrap"] if "BCa bootstrap" in used else names["t"]


def verdict(analysis: Analysis) -> str:
    """What the primary figure says, in one or two sentences; no claim where the seeds cannot carry one."""
    lines = [line for line in primary_lines(analysis) if line.comparison is not None]
    base, level = analysis.findings.base.name, f"{1 - analysis.findings.confidence:.2g}"
    able = [line for line in lines if line.comparison and line.comparison.p_permutation is not None and not line.comparison.too_few]
    if not able:
        return f"Too few seeds to say whether any arm differs from {base!r}: the intervals are all that can be reported."
    unit = analysis.units[analysis.findings.primary]
    both, one = [], []
    for line in able:
        assert line.comparison is not None
        found = [p is not None and p <= 1 - analysis.findings.confidence for p in _decided(line.comparison)]
        (both if all(found) else one if any(found) else []).append(line)
    corrected = ", Holm-corrected," if len(able) > 1 else ""
    out = []
    if both:
        out.append(f"Both tests{corrected} pass {level} for {_listed(unit, both)}.")
    if one:
        out.append(f"Only one of the two tests{corrected} passes {level} for {_listed(unit, one)}.")
    rest = len(lines) - len(both) - len(one)
    if not both and not one:
        out.append(f"No arm can be told from {base!r} at {level}.")
    if rest:
        out.append(
            "An arm that cannot be told from the base is not shown to equal it: its interval says which differences remain possible."
        )
    return " ".join(out)


def _decided(comparison: Comparison) -> tuple[float | None, float | None]:
    if comparison.family > 1:
        return comparison.p_t_holm, comparison.p_permutation_holm
    return comparison.p_t, comparison.p_permutation


def _listed(unit: Unit, lines: list[Line]) -> str:
    in_units = f" {unit.of_differences}" if unit.of_differences else ""
    return ", ".join(f"{line.arm!r} ({difference(unit, line.comparison).split(' [')[0]}{in_units})" for line in lines)
