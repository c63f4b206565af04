"""A variant against the base, paired by seed, and the correction for several of them. What cannot be said is None with a reason in `note`, never nan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from .samples import EQUAL, all_equal, level, number
from .signflip import sign_flip, smallest_p

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

__all__ = ["Comparison", "compare", "holm", "holm_corrected", "improvement"]


@attrs.frozen(kw_only=True)
class Comparison:
    """A variant against the base, paired by seed: differences are other − base with the same seed.

    Attributes:
        seeds: those that have the figure on both sides, in order.
        missing_base, missing_other: seeds that lack it on that side.
        difference: mean difference in the figure's units; None without a common seed.
        sd: standard deviation of the differences (n − 1); None where n < 2.
        low, high: its t-interval; both `difference` where every difference is the same.
        p_t: two-sided paired t-test (Student 1908); None where the differences do not vary.
        p_permutation: two-sided sign-flip test of the mean difference (Fisher 1935, §21).
        exact: whether all 2^n flips were counted; otherwise a fixed random sample of them.
        d_z: difference / sd (Cohen 1988, §2.3.5; Lakens 2013).
        g_z: d_z without its bias at small n (Hedges 1981, n − 1 degrees of freedom); None where n < 3.
        g: Hedges' g, as of two independent groups of n runs: difference / √((s₁² + s₂²) / 2), times Hedges' factor at 2n − 2 degrees of freedom (Hedges 1981;
            Lakens 2013, equations 1 and 4). It compares with unpaired studies, which `g_z` does not.
        improvement: P(other better than base), every pair of runs counted whatever the seeds, ties half (Agarwal et al. 2021, §4.3; Mann & Whitney 1947).
        p_t_holm, p_permutation_holm: corrected over `family` comparisons by `holm`.
        family: comparisons corrected for; 1 before `holm`.
        low_all, high_all: of the intervals that hold all at once over the family with the confidence at least: Student's t at (1 − confidence) / family
            (Bonferroni; Dunn 1961); `low`, `high` before `holm`.
        confidence: of the interval, in (0, 1); 1 − confidence is the level that `too_few` and `note` speak of.
        draws: where seeds are nested in draws of the data, how many there are (`nested.nest`); the sign-flip test then flips draws.
        sd_between_draws, sd_within_draws: of the differences' parts; None elsewhere.
        note: why something is None, or why the sign-flip test cannot pass; empty otherwise.
    """

    seeds: tuple[int, ...] = ()
    missing_base: tuple[int, ...] = ()
    missing_other: tuple[int, ...] = ()
    difference: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    p_t: float | None = None
    p_permutation: float | None = None
    exact: bool = True
    d_z: float | None = None
    g_z: float | None = None
    g: float | None = None
    improvement: float | None = None
    p_t_holm: float | None = None
    p_permutation_holm: float | None = None
    family: int = 1
    low_all: float | None = None
    high_all: float | None = None
    confidence: float = 0.95
    draws: int | None = None
    sd_between_draws: float | None = None
    sd_within_draws: float | None = None
    note: str = ""

    @property
    def n(self) -> int:
        """Seeds in common."""
        return len(self.seeds)

    @property
    def freedom(self) -> int | None:
        """Degrees of freedom of the t-test; None where there is none."""
        return None if self.n < 2 else (self.draws or self.n) - 1

    @property
    def error(self) -> float | None:
        """Standard error of the mean difference; None where n < 2."""
        return None if self.sd is None else self.sd / math.sqrt(self.n)

    @property
    def smallest_p(self) -> float:
        """What a sign-flip test of so many seeds (or draws of the data) shows at best, corrected over the family."""
        return min(1.0, self.family * smallest_p(self.draws or self.n))

    @property
    def too_few(self) -> bool:
        """True where no difference, however large, could pass the sign-flip test at 1 − confidence. It says nothing of the t-test, which has no such floor."""
        return self.smallest_p > level(self.confidence)

    @property
    def cannot_pass(self) -> str:
        """Where there are too few seeds for the sign-flip test, that in words."""
        if not self.too_few:
            return ""
        units = "draws of the data" if self.draws else "seeds"
        corrected = f" after Holm's correction over {self.family} comparisons" if self.family > 1 else ""
        return f"the sign-flip test cannot pass: the smallest p that {self.draws or self.n} {units} can show is {self.smallest_p:.3g}{corrected}"


def compare(
    base: Mapping[int, float | None],
    other: Mapping[int, float | None],
    confidence: float = 0.95,
    *,
    higher_is_better: bool = True,
) -> Comparison:
    """One variant against the base, seed by seed.

    Args:
        base, other: seed → the figure; None, nan and infinite count as missing.
        confidence: of the interval, in (0, 1).
        higher_is_better: which way `improvement` counts; the tests are two-sided either way.
    """
    import numpy as np

    here, there = ({seed: found for seed, value in side.items() if (found := number(value)) is not None} for side in (base, other))
    every = sorted({*base, *other})
    said = Comparison(
        seeds=tuple(sorted(here.keys() & there.keys())),
        missing_base=tuple(seed for seed in every if seed not in here),
        missing_other=tuple(seed for seed in every if seed not in there),
        confidence=confidence,
    )
    before, after = (np.asarray([side[seed] for seed in said.seeds]) for side in (here, there))
    if said.n == 0:
        return attrs.evolve(said, note="no seed has the figure on both sides")
    if said.n == 1:
        return attrs.evolve(
            said, difference=float(after[0] - before[0]), note="one seed in common: a difference, but nothing to judge it by"
        )
    said = _tested(said, before, after)
    better = improvement(before[:, None], after[:, None], higher_is_better)
    return attrs.evolve(said, improvement=float(better[0]), note=said.note or said.cannot_pass)


def _tested(said: Comparison, before: Array, after: Array) -> Comparison:
    """With the difference, its interval, both tests and the effect sizes filled in, from two seeds on."""
    from scipy import special

    differences, step = after - before, EQUAL * float(max(abs(before).max(), abs(after).max()))
    mean = float(differences.mean())
    p, exact = sign_flip(differences, step)
    said = attrs.evolve(said, p_permutation=p, exact=exact)
    if all_equal(differences, step):
        note = "every seed differs by the same: a t-test has no variation to go by"
        if abs(mean) <= step:
            mean, note = 0.0, "no seed differs"
        return attrs.evolve(said, difference=mean, sd=0.0, low=mean, high=mean, low_all=mean, high_all=mean, note=note)
    sd = float(differences.std(ddof=1))
    d_z = mean / sd
    # stats.ttest_rel gives the same and takes ten times as long, which counts over thousands of studies.
    half = float(special.stdtrit(said.n - 1, 0.5 + said.confidence / 2)) * sd / math.sqrt(said.n)
    pooled = math.sqrt((float(before.var(ddof=1)) + float(after.var(ddof=1))) / 2)
    return attrs.evolve(
        said,
        difference=mean,
        sd=sd,
        low=mean - half,
        high=mean + half,
        low_all=mean - half,
        high_all=mean + half,
        p_t=float(2 * special.stdtr(said.n - 1, -abs(d_z) * math.sqrt(said.n))),
        d_z=d_z,
        g_z=d_z * _unbiased(said.n - 1) if said.n > 2 else None,
        g=mean / pooled * _unbiased(2 * said.n - 2) if pooled > step else None,
    )


def _unbiased(freedom: int) -> float:
    """Hedges' factor J(m) = Γ(m/2) / (√(m/2) Γ((m − 1)/2)) at m > 1 degrees of freedom (Hedges 1981)."""
    return math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)) / math.sqrt(freedom / 2)


def improvement(base: Array, other: Array, higher_is_better: bool = True) -> Array:
    """(… runs figures) twice → (… figures): share of all pairs of a run each in which `other` is better, ties half: Mann and Whitney's U / (n m)."""
    import numpy as np

    gain = other[..., :, None, :] - base[..., None, :, :]
    tie = EQUAL * np.maximum(abs(base).max(axis=-2), abs(other).max(axis=-2))[..., None, None, :]
    better = np.where(abs(gain) <= tie, 0.0, np.sign(gain) if higher_is_better else -np.sign(gain))
    return np.asarray((1 + better.mean(axis=(-3, -2))) / 2)


def _simultaneous(said: Comparison) -> Comparison:
    """With the interval that holds together with those of the rest of the family."""
    from scipy import special

    if not said.error or said.difference is None or said.low is None:
        return said
    half = -float(special.stdtrit(said.freedom, level(said.confidence) / (2 * said.family))) * said.error
    return attrs.evolve(said, low_all=said.difference - half, high_all=said.difference + half)


def holm_corrected(p: Sequence[float | None]) -> tuple[float | None, ...]:
    """p-values by Holm's method (1979): sorted, the i-th of m times m − i + 1, none below the one before. None counts as 1 and stays None."""
    known = [1.0 if value is None else value for value in p]
    found: list[float | None] = [None] * len(known)
    reached = 0.0
    for rank, place in enumerate(sorted(range(len(known)), key=known.__getitem__)):
        reached = max(reached, min(1.0, known[place] * (len(known) - rank)))
        found[place] = None if p[place] is None else reached
    return tuple(found)


def holm(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The same comparisons with p-values corrected over all of them (Holm 1979), either test for itself, and with simultaneous intervals.

    Which comparisons are a family is the caller's to decide, before the figures are known. One whose runs failed, or whose differences do not vary, has
    no p; it stays in the family as p = 1, for a family that shrank with what was found would protect less.
    """
    flips = holm_corrected([member.p_permutation for member in comparisons])
    ts = holm_corrected([member.p_t for member in comparisons])
    corrected = []
    for member, p_t, p_flip in zip(comparisons, ts, flips, strict=True):
        told = attrs.evolve(
            member,
            family=len(comparisons),
            p_permutation_holm=p_flip,
            p_t_holm=p_t,
        )
        told = _simultaneous(told)
        says = member.p_permutation is None or member.sd == 0
        corrected.append(attrs.evolve(told, note=member.note if says else told.cannot_pass))
    return tuple(corrected)
