"""Looks at a study before its end, without more false alarms: alpha-spending plans (Lan & DeMets 1983). Torch-free.

How much of the level may be spent by each look is fixed by a function of the share of seeds that are done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

__all__ = ["SPENDING", "Simulated", "decide", "decide_all", "nominal_levels", "simulate", "spent"]

#: How the level is spent: next to nothing at first, or evenly.
SPENDING = ("obrien-fleming", "pocock")


def spent(spending: str, alpha: float, share: float) -> float:
    """The two-sided level that may be spent once so much of the seeds is done, in (0, 1] (Lan & DeMets 1983)."""
    from scipy import stats

    assert spending in SPENDING and 0 < alpha < 1 and 0 < share <= 1, (spending, alpha, share)
    if spending == "pocock":
        return alpha * math.log(1 + (math.e - 1) * share)
    return float(4 * stats.norm.sf(stats.norm.isf(alpha / 4) / math.sqrt(share)))


#: Studies without an effect by which boundaries are found, and the fewest that have to lie beyond one.
_STUDIES, _BEYOND = 1_000_000, 200


@cache
def nominal_levels(looks: tuple[int, ...], alpha: float, spending: str) -> tuple[float, ...]:
    """The two-sided level of the t-test at each look: the p-value that it has to reach.

    Boundaries of a Brownian motion, which tables give, let t-tests of few seeds pass too often (5.4 % in place of 5 % for looks at 4, 6 and 8 seeds). So each
    look's level is the quantile of its p-value among a million simulated studies of normal differences without an effect that have not passed before. Where
    too few of these are beyond it, the level is what may be spent at that look alone, which is never too much.

    Args:
        looks: seeds that are done at each look, rising, the first at least 2; the last is the study's whole.
        alpha: two-sided level over all looks.
    """
    import numpy as np

    left, before, levels = np.ones(_STUDIES, dtype=bool), 0.0, list[float]()
    for p, look in zip(_without_effect(looks), looks, strict=True):
        until = spent(spending, alpha, look / looks[-1])
        more = until - before
        beyond = round(more * _STUDIES)
        # The first look's p-value is uniform.
        level = more if not levels or beyond < _BEYOND else max(more, float(np.partition(p[left], beyond)[beyond]))
        levels.append(level)
        left &= p > level
        before = until
    return tuple(levels)


@cache
def _without_effect(looks: tuple[int, ...]) -> tuple[Array, ...]:
    """Look → the p-values of `_STUDIES` studies, from sums and sums of squares of the seeds between two looks."""
    import numpy as np
    from scipy import special

    rng = np.random.default_rng(20)
    total, squares, done, found = np.zeros(_STUDIES), np.zeros(_STUDIES), 0, []
    for look in looks:
        more = look - done
        sums = rng.normal(scale=math.sqrt(more), size=_STUDIES)
        total = total + sums
        squares = squares + sums**2 / more + (rng.chisquare(more - 1, size=_STUDIES) if more > 1 else 0.0)
        done = look
        error = np.sqrt((squares - total**2 / done) / (done - 1) * done)
        found.append(2 * special.stdtr(done - 1, -np.abs(total) / error))
    return tuple(found)


def decide(p: Sequence[Sequence[float | None]], looks: tuple[int, ...], alpha: float, spending: str) -> tuple[int | None, ...]:
    """At which look each claim is decided; None while it is not. Holm's method over claims at every look (Maurer & Bretz 2013).

    A claim is tested at the nominal level of alpha / (claims that are not decided yet); whenever one passes, the others are tested anew.

    Args:
        p: look → claim → p-value of its t-test; looks that are not there yet are left out, None for a claim without a p-value.
    """
    import numpy as np

    if not p:
        return ()
    table = np.asarray([[1.0 if value is None else value for value in row] for row in p])[None]
    found = decide_all(table, looks, alpha, spending)[0]
    return tuple(None if look < 0 else int(look) for look in found)


def decide_all(p: Array, looks: tuple[int, ...], alpha: float, spending: str) -> npt.NDArray[np.int64]:
    """The same of many studies: (studies looks claims) → (studies claims) number of the look, −1 where none."""
    import numpy as np

    studies, done, claims = p.shape
    levels = np.array([[1.0] * len(looks), *(nominal_levels(looks, alpha / left, spending) for left in range(1, claims + 1))])
    at = np.full((studies, claims), -1)
    for look in range(done):
        for _ in range(claims):
            left = (at < 0).sum(axis=1)
            passes = (at < 0) & (p[:, look] <= levels[left, look][:, None])
            if not passes.any():
                break
            at[passes] = look
    return at


@attrs.frozen(kw_only=True)
class Simulated:
    """What a plan does, over simulated studies.

    Attributes:
        false_alarms: share of studies without any effect in which a claim passes at some look.
        power: share of studies in which a claim with the effect passes, the others having none.
        seeds: how many seeds such a claim takes on average.
        effect: in standard deviations of paired differences.
        studies: how many were simulated.
    """

    false_alarms: float
    power: float
    seeds: float
    effect: float
    studies: int


def simulate(looks: tuple[int, ...], claims: int, alpha: float, spending: str, effect: float, studies: int = 10_000) -> Simulated:
    """Simulates a plan with normal differences: studies without effects, and studies in which the first claim has one."""
    import numpy as np

    rng = np.random.default_rng(0)
    draws = rng.normal(size=(studies, claims, looks[-1]))
    null = decide_all(_t_tests(draws, looks), looks, alpha, spending)
    draws[:, 0] += effect
    with_effect = decide_all(_t_tests(draws, looks), looks, alpha, spending)[:, 0]
    taken = np.where(with_effect < 0, looks[-1], np.take(np.asarray(looks), with_effect))
    return Simulated(
        false_alarms=float((null >= 0).any(axis=1).mean()),
        power=float((with_effect >= 0).mean()),
        seeds=float(taken.mean()),
        effect=effect,
        studies=studies,
    )


def _t_tests(differences: Array, looks: Sequence[int]) -> Array:
    """(studies claims seeds) → (studies looks claims) two-sided p of the t-tests at each look."""
    import numpy as np
    from scipy import special

    found = []
    for n in looks:
        part = differences[..., :n]
        t = part.mean(axis=-1) / (part.std(axis=-1, ddof=1) / math.sqrt(n))
        found.append(2 * special.stdtr(n - 1, -abs(t)))
    return np.stack(found, axis=1)
