"""What is told of a study's rules, in words: its design, its margin, its looks. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ibllm.units import readable

from .claims import Claim
from .findings import Findings
from .matched import COSTS, Matched
from .schema import ALL_PAIRS
from .statistics.factorial import Effect, named

#: Pairs whose ranking changes that are told one by one.
_MOST = 3

Listed = Callable[[Sequence[Claim]], str]


def claimed(found: Findings) -> str:
    """What the claims are of, in the plural."""
    return "effects" if found.factorial is not None else "comparisons"


def made(found: Findings) -> str:
    """How differences came about."""
    if found.factorial is None and found.rules.against == ALL_PAIRS:
        return "Differences are paired by seed"
    if found.factorial is None:
        return f"Differences are to “{found.control.name}”, paired by seed"
    return (
        "An effect is the mean over the cells in which the product of its factors' levels (−1, +1) is +1, less the mean over the others; "
        "seeds are blocks, each giving one value"
    )


def sizes(found: Findings) -> str:
    own = "g_z: mean difference in standard deviations of the paired differences"
    return (
        f"{own}." if found.factorial is not None else f"{own}; g: Hedges' g as of independent groups, which compares with unpaired studies."
    )


def confounded(found: Findings) -> list[str]:
    """What a fraction of a factorial design cannot tell apart."""
    design = found.factorial
    if design is None or not design.words:
        return []
    cells = f"A fraction of resolution {design.resolution}: {len(design.cells)} of {2 ** len(design.factors)} cells"
    told = [f"{effect.name} {aliased(effect)}" for effect in design.effects]
    return [f"{cells}. What is said of an effect is said of its aliases with it: {'; '.join(told)}."]


def aliased(effect: Effect) -> str:
    """``+ cycle × attention``: what an effect's contrast holds besides."""
    return " ".join(f"{'+' if sign > 0 else '−'} {named(factors)}" for factors, sign in effect.aliases)


def subject(found: Findings) -> tuple[str, str]:
    """(what a claim is about, what it is told from)."""
    if found.factorial is not None:
        return "effect", "zero"
    return ("pair", "being equal") if found.rules.against == ALL_PAIRS else ("arm", f"“{found.control.name}”")


def unsaid(found: Findings) -> str:
    """What must not be read into a test that does not pass."""
    if found.factorial is not None:
        return "An effect that cannot be told from zero is not shown to be none: its interval says how large it may still be."
    if found.rules.against == ALL_PAIRS:
        return "Arms that cannot be told apart are not shown to be equal: the interval says which differences remain possible."
    control = "the base" if found.control is found.base else f"“{found.control.name}”"
    return f"An arm that cannot be told from {control} is not shown to equal it: its interval says which differences remain possible."


def tests(found: Findings, family: int, exact: bool) -> str:
    """Which tests were made, and over what they were corrected."""
    over = "the primary figure" if len(found.primaries) == 1 else f"the {len(found.primaries)} primary figures"
    if found.rules.looks:
        looks = ", ".join(map(str, found.rules.looks))
        corrected = f", by Holm's method over {family} {claimed(found)}" if family > 1 else ""
        return (
            f"Looks at {looks} seeds, fixed beforehand; p: two-sided paired t-test at the look that decided, or the last so far, against the level that the "
            f"{found.rules.spending} spending function leaves to it{corrected}. Intervals hold at all looks at once."
        )
    which = "exact sign-flip test" if exact else "sign-flip test"
    corrected = (
        f", Holm-corrected over the {family} {claimed(found)} of {over}" if family > 1 else f"; a single {claimed(found)[:-1]}, uncorrected"
    )
    return f"p: two-sided paired t-test and {which}{corrected}."


def margin(found: Findings) -> list[str]:
    """What the answers beside a margin mean."""
    if found.rules.margin is None:
        return []
    return [
        f"Margin: {found.rules.margin:g} in the figure's own units, fixed beforehand. An arm is the same within it where two one-sided t-tests say that the "
        "difference is less, either way, and better or worse where the t-test passes. Difference and sameness are corrected together (Shaffer 1986), so the "
        "t-test's p is corrected for both, the sign-flip test's for differences alone."
    ]


def nested(claims: Sequence[Claim]) -> list[str]:
    """That seeds are nested in draws of the data."""
    draws = next((claim.comparison.draws for claim in claims if claim.comparison.draws), None)
    if draws is None:
        return []
    return [
        f"Seeds are nested in {draws} draws of the training data: a mixed model (REML) with {draws - 1} degrees of freedom; the sign-flip test flips draws. "
        "What is found holds for other draws, too."
    ]


def budget(reading: Matched) -> str:
    """What is held equal: ``1.2 T FLOPs``, ``35 s``."""
    return f"{readable(reading.budget)} FLOPs" if reading.cost == "flops" else f"{reading.budget:.3g} s"


def at_equal_cost(readings: Mapping[str, Sequence[Matched]]) -> list[str]:
    """How learning curves were read at equal cost, where the ranking changes, and for which figure there are none."""
    found = [reading for own in readings.values() for reading in own]
    out = []
    if found:
        names = ", ".join(dict.fromkeys(reading.figure for reading in found))
        out.append(
            f"At equal cost: {names} in validation, read off the learning curves at the most that every run has spent by its last one. A reading amid a "
            "training comes before its rates have fallen, which is to the disadvantage of what trains longer."
        )
    for reading in found:
        told = [f"“{a}” comes before “{b}”" for a, b in reading.changes]
        more = f" and {len(told) - _MOST} pairs more" if len(told) > _MOST else ""
        if told:
            out.append(f"Warning: at equal {COSTS[reading.cost]} the ranking is another than at the end: {', '.join(told[:_MOST])}{more}.")
    if missing := [figure for figure, own in readings.items() if not own]:
        out.append(f"No reading at equal cost of {', '.join(missing)}: fewer than two arms have learning curves of this figure.")
    return out


def answers(claims: Sequence[Claim], listed: Listed) -> str:
    """Each answer with the claims that it is given to."""
    groups: dict[str, list[Claim]] = {}
    for claim in claims:
        groups.setdefault(claim.answer, []).append(claim)
    return " ".join(f"{answer[0].upper()}{answer[1:]}: {listed(own)}." for answer, own in groups.items())


def stopped(claims: Sequence[Claim], listed: Listed) -> str:
    """What a sequential study has decided, and whether it goes on."""
    decided = [claim for claim in claims if claim.look is not None and claim.look.passed]
    out = [f"Decided: {listed(decided)}."] if decided else []
    rest = [claim for claim in claims if claim not in decided]
    if rest and all(claim.look is not None and claim.look.last for claim in rest):
        out.append(f"Not to be told after the last look: {listed(rest)}.")
    elif rest:
        out.append(f"Not decided yet: {listed(rest)}.")
    return " ".join(out)
