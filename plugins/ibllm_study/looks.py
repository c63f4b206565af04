"""A sequential study: what was decided at which look, and which runs are still to be made. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from .directory import WAITING
from .statistics.sequential import decide, nominal_levels

if TYPE_CHECKING:
    from .claims import Claim
    from .directory import StudyDirectory
    from .findings import Findings
    from .plan import Plan
    from .runner import Runner


@attrs.frozen(kw_only=True)
class Look:
    """A look at a claim.

    Attributes:
        number: from 0.
        seeds: that were done by then.
        passed: whether the claim was decided there; otherwise it is the last look so far.
        last: whether no other look is to come.
        level: the nominal level that the claim's p-value had to reach.
    """

    number: int
    seeds: int
    passed: bool
    last: bool
    level: float


@attrs.frozen(kw_only=True)
class Course:
    """How far a sequential study is.

    Attributes:
        looks: claim → its look; None before the first one.
        done: looks that are complete.
        needed: arm → seeds that it takes as far as is known, the next look's included.
    """

    looks: tuple[Look | None, ...]
    done: int
    needed: dict[str, tuple[int, ...]]


def look_through(findings: Findings) -> tuple[Look | None, ...]:
    """Claim by claim, in the order of `raw_claims`, its look."""
    return course(findings).looks


def course(findings: Findings) -> Course:
    """Look after look, as far as all runs that a look takes have ended."""
    from .claims import raw_claims

    rules = findings.rules
    rows: list[list[float | None]] = []
    decided: tuple[int | None, ...] = ()
    needed: dict[str, tuple[int, ...]] = {arm.name: () for arm in findings.arms}
    for seeds in rules.looks:
        part = findings.seeds[:seeds]
        claims = list(raw_claims(findings, part))
        decided = decided or (None,) * len(claims)
        wanted = _wanted(findings, claims, decided)
        needed |= dict.fromkeys(wanted, part)
        waiting = any(
            run.status == WAITING for arm in findings.arms if arm.name in wanted for seed, run in arm.runs.items() if seed in part
        )
        if not wanted or waiting:
            break
        rows.append([claim.comparison.p_t for claim in claims])
        decided = decide(rows, rules.looks, findings.level, rules.spending)
    return Course(looks=tuple(_look(findings, decided, number, len(rows)) for number in range(len(decided))), done=len(rows), needed=needed)


def _wanted(findings: Findings, claims: Sequence[Claim], decided: Sequence[int | None]) -> list[str]:
    """The arms that an undecided claim still takes."""
    open_claims = [claim for claim, at in zip(claims, decided, strict=True) if at is None]
    if any(claim.effect is not None for claim in open_claims):
        return [arm.name for arm in findings.arms]
    names = {name for claim in open_claims for name in claim.arms or ()}
    return [arm.name for arm in findings.arms if arm.name in names]


def _look(findings: Findings, decided: Sequence[int | None], claim: int, done: int) -> Look | None:
    rules = findings.rules
    at = decided[claim]
    number = done - 1 if at is None else at
    if number < 0:
        return None
    # Those that were open when it was tested: all that were not decided before this look, less those that passed with a smaller p at it.
    left = sum(other is None or other >= number for other in decided)
    level = nominal_levels(rules.looks, findings.level / (left if at is None else 1 if left < 1 else left), rules.spending)[number]
    return Look(number=number, seeds=rules.looks[number], passed=at is not None, last=number == len(rules.looks) - 1, level=level)


class Stopping:
    """Lets a runner make the runs that the next look takes, and no more."""

    def __init__(self, plan: Plan, directory: StudyDirectory, runner: Runner) -> None:
        self._plan, self._directory, self._runner = plan, directory, runner
        self._hold()

    def __call__(self) -> bool:
        """Called whenever the runner has looked at its workers; whether more runs are to be made."""
        runner = self._runner
        if runner.stopped or any(outcome.status == WAITING for name, outcome in runner.outcomes.items() if name not in runner.later):
            return False
        before = len(runner.later)
        self._hold()
        return len(runner.later) < before

    def _hold(self) -> None:
        """Keeps the runs back that no look takes yet."""
        from .findings import from_plan

        found = course(from_plan(self._plan, self._directory))
        needed = {(arm, seed) for arm, seeds in found.needed.items() for seed in seeds}
        self._runner.later = {cell.id for cell in self._plan.cells if (cell.arm.name, cell.seed) not in needed}
