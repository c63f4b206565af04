"""Numbers of an analysis in words, alike in every table: intervals, differences, p-values. Torch-free."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ibllm_report.results import split_of

from . import telling
from .analysis import Analysis, Line, Unit
from .claims import Claim
from .directory import WAITING
from .findings import Findings, FoundRun
from .fingerprints import states, told
from .statistics import Comparison, Summary

NONE = "—"
#: Behind a p that could not have passed, however large the difference.
CANNOT = "†"
#: Failures that are listed one by one; all stand in runs.csv and on the page.
_MOST = 8


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
    if summary.mean is None or summary.low is None or summary.high is None or summary.method != "t":
        return mean(unit, summary)
    if not math.isclose(summary.high - summary.mean, summary.mean - summary.low, rel_tol=1e-6, abs_tol=1e-12):
        # One that ends at 0 or at 100 %.
        return mean(unit, summary)
    return f"{unit.number(summary.mean)} ± {unit.number(summary.high - summary.mean)}"


def difference(unit: Unit, comparison: Comparison | None) -> str:
    """``−2.3 [−4.0, −0.6]``; the interval is simultaneous where the p-values are corrected."""
    if comparison is None or comparison.difference is None:
        return NONE
    return f"{unit.number(comparison.difference, sign=True)} {interval(unit, comparison.low_all, comparison.high_all, sign=True)}".rstrip()


def p_value(p: float | None) -> str:
    """Two digits, and no more than can be believed: ``0.031``, ``< 0.001``."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.4f}" if p < 0.00995 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def cannot_pass(comparison: Comparison) -> bool:
    """Whether these seeds are too few for the sign-flip test. Holm's later steps are less strict than its first: what passes them is not too few."""
    corrected = comparison.p_permutation_holm
    passes = corrected is not None and corrected <= level(comparison.confidence)
    return comparison.p_permutation is not None and comparison.too_few and not passes


def p_values(comparison: Comparison | None) -> tuple[str, str]:
    """Of the t-test and of the sign-flip test, corrected; either is judged by what it can show itself, and one that cannot pass is marked `CANNOT`."""
    if comparison is None:
        return NONE, NONE
    if not comparison.n:
        return "no common seed", NONE
    by_t, by_flips = decided(comparison)
    return p_value(by_t), p_value(by_flips) + (CANNOT if cannot_pass(comparison) else "")


def look(claim: Claim) -> list[str]:
    """Of a sequential study: the p at the claim's look, the level that it had to reach there, and which look that is."""
    at = claim.look
    if at is None:
        return [NONE, NONE, "none yet"]
    word = "passed" if at.passed else "the last" if at.last else "goes on"
    return [p_value(claim.comparison.p_t), p_value(at.level), f"{at.number + 1} ({at.seeds} seeds): {word}"]


def decided(comparison: Comparison) -> tuple[float | None, float | None]:
    """The p-values that count, of the t-test and of the sign-flip test: corrected where there is something to correct for."""
    if comparison.family > 1:
        return comparison.p_t_holm, comparison.p_permutation_holm
    return comparison.p_t, comparison.p_permutation


def level(confidence: float) -> float:
    """1 − confidence without the last digit's noise."""
    return round(1 - confidence, 12)


def effects(comparison: Comparison | None) -> tuple[str, str]:
    """g_z of the paired differences, and Hedges' g as of independent groups."""
    found = (None, None) if comparison is None else (comparison.g_z, comparison.g)
    return NONE if found[0] is None else _signed(found[0]), NONE if found[1] is None else _signed(found[1])


def _signed(value: float) -> str:
    text = f"{value:+.2f}"
    return (text.lstrip("+-") if float(text) == 0 else text).replace("-", "−")


def primary_lines(analysis: Analysis) -> list[Line]:
    """The primary figure's lines, in the study's order."""
    return [analysis.line(arm, analysis.findings.primary) for arm in analysis.findings.arms]


def headline(analysis: Analysis) -> str:
    """What the primary figure is, of how many seeds, and which way is better."""
    found = analysis.findings
    unnamed = "" if found.chosen else ", not named beforehand"
    said = []
    for figure in found.primaries:
        unit, which = analysis.units[figure], "less" if found.direction(figure) == "min" else "more"
        said.append(f"{unit.label} ({figure}{unnamed}){f', in {unit.unit}' if unit.unit else ''}; {which} is better")
    seeds = f"{len(found.seeds)} seed{'s' if len(found.seeds) != 1 else ''}"
    return f"{'; '.join(said)}; {seeds}, {100 * found.confidence:g} % intervals"


def notes(analysis: Analysis) -> list[str]:
    """What must be known to read the primary table: how it was made, what these seeds could show, what is missing."""
    found = analysis.findings
    lines = [claim.comparison for claim in analysis.claims]
    family = max((comparison.family for comparison in lines), default=1)
    exact = all(comparison.exact for comparison in lines)
    tests = [
        telling.tests(found, family, exact),
        *([f"{CANNOT} Could not pass {level(found.confidence):g}, however large the difference."] if any(map(cannot_pass, lines)) else []),
        *telling.margin(found),
        telling.sizes(found),
        *([] if found.rules.looks else analysis.foresight.sentences()),
    ]
    together = f" Those of differences hold for all {family} at once{'' if found.rules.looks else ' (Bonferroni)'}." if family > 1 else ""
    out = [
        f"{telling.made(found)}; intervals are {_methods(analysis)}.{together}",
        *telling.confounded(found),
        *telling.nested(analysis.claims),
        *([] if found.searched else tests),
    ]
    if not found.chosen:
        out.append("The primary figure was not named (--primary), so it counts as chosen after the fact: read the p-values as exploratory.")
    out += [] if found.foreign else telling.at_equal_cost(analysis.matched)
    out += mismatches(found)
    out += [f"{_named(analysis, claim)}: {claim.comparison.note}." for claim in analysis.claims if _worth_saying(claim.comparison)]
    missing = [(arm, run) for arm, run in found.runs if not run.done and not (found.rules.looks and run.status == WAITING)]
    if missing:
        counts = Counter(run.status for _, run in missing)
        out.append(
            f"{len(missing)} of {len(found.runs)} runs have no figures: {', '.join(f'{n} {status}' for status, n in counts.items())}."
        )
    out += [f"{arm.name}, seed {run.seed}: {run.status}: {run.reason.rstrip('.')}." for arm, run in missing if run.reason][:_MOST]
    return out


def _worth_saying(comparison: Comparison) -> bool:
    """Whether a note says more than that these seeds are too few for a test, which the table marks and the foresight explains."""
    return bool(comparison.note) and comparison.note != comparison.cannot_pass


def _methods(analysis: Analysis) -> str:
    used = {line.summary.method for line in primary_lines(analysis) if line.summary.method}
    names = {"t": "Student's t", "BCa bootstrap": "BCa bootstraps of means and Student's t of differences"}
    return names["BCa bootstrap"] if "BCa bootstrap" in used else names["t"]


def verdict(analysis: Analysis) -> str:
    """What the primary figure says, in one or two sentences; no claim where the seeds cannot carry one."""
    claims, found = analysis.claims, analysis.findings
    alpha = level(found.confidence)
    any_arm, base = telling.subject(found)
    if found.searched:
        return "A search tests nothing: its points were chosen by these very figures. What it found is to be confirmed by a study on other seeds."
    if found.rules.looks:
        return telling.stopped(claims, lambda own: _listed(analysis, own))
    if found.rules.margin is not None:
        return telling.answers(claims, lambda own: _listed(analysis, own))
    tested = [claim for claim in claims if any(p is not None for p in _able(claim.comparison))]
    if not tested:
        return f"Too few seeds to say whether any {any_arm} differs from {base}: the intervals are all that can be reported."
    groups: dict[str, list[Claim]] = {}
    for claim in tested:
        passed = [p is not None and p <= alpha for p in _able(claim.comparison)]
        alone = cannot_pass(claim.comparison) or claim.comparison.p_t is None
        groups.setdefault("all" if all(passed) else "" if not any(passed) else "alone" if alone else "one", []).append(claim)
    corrected = ", Holm-corrected," if len(claims) > 1 else ""
    out = []
    if both := groups.get("all"):
        out.append(f"Both tests{corrected} pass {alpha:g} for {_listed(analysis, both)}.")
    if one := groups.get("one"):
        out.append(f"Only one of the two tests{corrected} passes {alpha:g} for {_listed(analysis, one)}.")
    if alone_passed := groups.get("alone"):
        out.append(
            f"The t-test{corrected} passes {alpha:g} for {_listed(analysis, alone_passed)}; these seeds are too few for the sign-flip test, "
            "which trusts no distribution."
        )
    if not out:
        out.append(f"No {any_arm} can be told from {base} at {alpha:g}.")
    if len(claims) > sum(len(group) for name, group in groups.items() if name):
        out.append(telling.unsaid(found))
    return " ".join(out)


def _able(comparison: Comparison) -> tuple[float | None, float | None]:
    """The p-values of the two tests that can pass with these seeds; None for one that cannot."""
    by_t, by_flips = decided(comparison)
    return by_t, None if cannot_pass(comparison) else by_flips


def _listed(analysis: Analysis, claims: Sequence[Claim]) -> str:
    out = []
    for claim in claims:
        unit = analysis.units[claim.figure]
        in_units = f" {unit.of_differences}" if unit.of_differences else ""
        out.append(f"“{_named(analysis, claim)}” ({difference(unit, claim.comparison).split(' [')[0]}{in_units})")
    return ", ".join(out)


def _named(analysis: Analysis, claim: Claim) -> str:
    """A claim's label, with its figure where there are several."""
    return claim.label if len(analysis.findings.primaries) == 1 else f"{claim.label}, {claim.figure}"


def mismatches(found: Findings) -> list[str]:
    """What makes runs hard to compare: other source; and arms whose primary split was measured otherwise (other items, another extractor) than the base's."""
    split = split_of(found.primary)[0]
    out = _mixed(found)
    for arm in found.arms[1:]:
        pairs = [(found.base.runs[seed], run) for seed, run in arm.runs.items() if seed in found.base.runs]
        found_otherwise = dict.fromkeys(difference for base, run in pairs for difference in _measured_otherwise(base, run, split))
        if found_otherwise:
            out.append(
                f"{arm.name}: measured otherwise than “{found.base.name}”, so not to be compared: {'; '.join(list(found_otherwise)[:3])}."
            )
    return out


def _mixed(found: Findings) -> list[str]:
    """What the finished runs were not all made with the same state of, and which of them share one."""
    now = states(found)
    sources = {name for _, run in found.runs for name in run.info.get("sources") or {}}
    kinds = {
        "source or weights": [name for name in now.mixed if name in sources],
        "version": [name for name in now.mixed if name not in sources],
    }
    out = [f"The runs were not all made with the same {kind} of {', '.join(names)}." for kind, names in kinds.items() if names]
    out += [f"Runs of one letter share a state: {'. '.join(told(now.source))}."] if out else []
    return out + [f"{arm}: not all of its runs had the same data ({'. '.join(told(now.data))})." for arm in now.mixed_data]


def _measured_otherwise(base: FoundRun, run: FoundRun, split: str) -> list[str]:
    before, after = (_records(found.info, split) if found.done else {} for found in (base, run))
    return [f"{split} {name}: {before[name]} → {after[name]}" for name in before if name in after and before[name] != after[name]]


def _records(info: Mapping[str, Any], split: str) -> dict[str, Any]:
    """How the split's figures came about, as run.json says: ``METRIC KEY`` → value."""
    splits = info.get("metrics")
    metrics = splits.get(split) if isinstance(splits, Mapping) else None
    return {
        f"{metric} {key}": value
        for metric, record in (metrics.items() if isinstance(metrics, Mapping) else ())
        if isinstance(record, Mapping)
        for key, value in record.items()
    }
