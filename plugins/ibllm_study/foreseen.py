"""``--plan --from-pilot DIR``: how many seeds a study takes, from the runs of a smaller one. Torch-free."""

from __future__ import annotations

from pathlib import Path

import attrs

from ibllm_core.errors import UserError, suggestion

from .claims import Claim, raw_claims
from .findings import Findings
from .plan import Plan
from .rules import rules_of
from .saved import from_directory
from .schema import ALL_PAIRS
from .statistics.pilot import LEAST, MOST, Needed, resampled_power, seeds_needed
from .statistics.samples import level

#: The power that is asked for.
POWER = 0.8


def foreseen(plan: Plan, path: Path, claims: int) -> list[str]:
    """Lines for each claim of the plan: what the pilot found, the power of the plan's seeds, and how many seeds give 80 %.

    Args:
        path: the pilot's directory; its arms are known by their names.
        claims: how many the plan corrects for.

    Raises:
        UserError: it is no study, or lacks a primary figure or the control.
    """
    pilot, seeds = _as_planned(plan, path), len(plan.study.seeds)
    alpha, margin = level(plan.study.table.confidence) / claims, plan.study.table.margin
    corrected = f", at Holm's strictest step over {claims} claims" if claims > 1 else ""
    lines = [f"from the pilot {path} ({len(pilot.seeds)} seeds), by resampling its differences{corrected}:"]
    told = [(claim, _told(claim, seeds, alpha, margin)) for claim in raw_claims(pilot)]
    several = len(pilot.primaries) > 1
    lines += [f"  {claim.label}{f', {claim.figure}' if several else ''}: {words}" for claim, words in told]
    missing = [arm.name for arm in plan.arms if arm.name not in {arm.name for arm in pilot.arms}]
    if missing:
        lines.append(f"  not in the pilot: {', '.join(missing)}")
    if again := sorted(set(pilot.seeds) & set(plan.study.seeds)):
        lines.append(
            f"  seeds {', '.join(map(str, again))} are the pilot's, whose figures have been looked at: with other seeds the study would be independent of them"
        )
    return lines


def _as_planned(plan: Plan, path: Path) -> Findings:
    """The pilot's runs, compared as the plan compares."""
    pilot, names = from_directory(path), [arm.name for arm in plan.arms]
    for figure in plan.study.table.primaries:
        if figure not in pilot.figures or not any(figure in run.results for _, run in pilot.runs):
            raise UserError(f"--from-pilot {path}: no run has {figure}; {suggestion(figure, pilot.figures)}")
    arms = tuple(sorted((arm for arm in pilot.arms if arm.name in names), key=lambda arm: names.index(arm.name)))
    needed = names if plan.study.factorial is not None else [plan.study.table.against] if plan.study.table.against != ALL_PAIRS else []
    for name in needed:
        if name not in {arm.name for arm in arms}:
            raise UserError(f"--from-pilot {path}: it has no arm {name!r}; {suggestion(name, [arm.name for arm in pilot.arms])}")
    # A pilot is as large as it is: looks and draws are the study's.
    rules = attrs.evolve(rules_of(plan.study, plan.modes), looks=(), draw={})
    return attrs.evolve(pilot, arms=arms, primary=plan.study.table.decides, rules=rules, factorial=plan.study.factorial)


def _told(claim: Claim, seeds: int, alpha: float, margin: float | None) -> str:
    differences = list(claim.by_seed.values())
    if len(differences) < LEAST or not claim.comparison.sd:
        return f"{len(differences)} seeds in common, or no difference among them: nothing to resample (at least {LEAST} that differ)"
    assert claim.comparison.difference is not None
    found = f"difference {claim.comparison.difference:+.3g}, sd {claim.comparison.sd:.3g}".replace("-", "−")
    power = resampled_power(differences, seeds, alpha) if seeds > 1 else 0.0
    parts = [
        f"{found}; found in {100 * power:.0f} % of studies of {seeds} seeds, in {POWER:.0%} of those of {_seeds(seeds_needed(differences, alpha, POWER))}"
    ]
    if margin is not None:
        parts.append(
            f"if there is no difference, sameness within {margin:g} is shown with {_seeds(seeds_needed(differences, alpha, POWER, margin))}"
        )
    return "; ".join(parts)


def _seeds(found: Needed) -> str:
    def number(seeds: int | None) -> str:
        return f"more than {MOST}" if seeds is None else str(seeds)

    return f"{number(found.seeds)} seeds ({number(found.low)} to {number(found.high)} by pilots of this size)"
