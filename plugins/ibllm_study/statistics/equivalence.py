"""Whether two arms are the same within a margin, or one no worse than the other by it. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from .paired import Comparison
from .samples import level

__all__ = [
    "BETTER",
    "NOT_TOLD",
    "NOT_WORSE",
    "SAME",
    "SAME_EVERYWHERE",
    "WORSE",
    "Equivalence",
    "answer",
    "equivalence",
    "equivalences",
    "tost_power",
]

BETTER, WORSE, SAME = "better", "worse", "the same within the margin"
NOT_TOLD, NOT_WORSE = "not to be told", "not worse by the margin"
SAME_EVERYWHERE = "the same in every seed"


@attrs.frozen(kw_only=True)
class Equivalence:
    """Two one-sided t-tests of a paired difference against a margin (Schuirmann 1987; Lakens 2017).

    Attributes:
        margin: in the figure's units; differences below it, either way, do not matter.
        p: of the equivalence, the larger of the two one-sided ones; None where the differences do not vary.
        p_not_worse: of non-inferiority, that of the side on which `other` is worse.
        p_corrected, p_not_worse_corrected: corrected by `equivalences`.
        low, high: the interval of twice the level (90 % where tests are at 5 %): equivalence is found where it lies within the margin.
    """

    margin: float
    p: float | None = None
    p_not_worse: float | None = None
    p_corrected: float | None = None
    p_not_worse_corrected: float | None = None
    low: float | None = None
    high: float | None = None


def equivalence(comparison: Comparison, margin: float, *, higher_is_better: bool = True) -> Equivalence:
    """The two one-sided tests of a comparison.

    Args:
        margin: more than 0, in the figure's units.
        higher_is_better: on which side `other` is worse.
    """
    from scipy import special

    said = Equivalence(margin=margin)
    if comparison.difference is None or not comparison.sd:
        return said
    freedom, error = comparison.freedom, comparison.error
    assert freedom is not None and error is not None
    above = float(special.stdtr(freedom, -(comparison.difference + margin) / error))
    below = float(special.stdtr(freedom, (comparison.difference - margin) / error))
    half = float(special.stdtrit(freedom, 1 - level(comparison.confidence))) * error
    return attrs.evolve(
        said,
        p=max(above, below),
        p_not_worse=above if higher_is_better else below,
        low=comparison.difference - half,
        high=comparison.difference + half,
    )


def equivalences(
    comparisons: Sequence[Comparison], margin: float, higher_is_better: Sequence[bool]
) -> tuple[tuple[Comparison, Equivalence], ...]:
    """Comparisons and their tests against the margin, corrected for together: the chance of any false statement, of a difference or of sameness, is the level.

    No difference at all and one beyond the margin cannot both be true of an arm. So of two hypotheses an arm at most one is true, and a step-down method
    multiplies each p by the number of arms of which a hypothesis may still be true: those that have not both rejected (Shaffer 1986). Non-inferiority goes
    with equivalence, which implies it. What has no p stays in the family as p = 1.
    """
    found = [equivalence(one, margin, higher_is_better=better) for one, better in zip(comparisons, higher_is_better, strict=True)]
    m, reached = len(found), 0.0
    each = [(1.0 if p is None else p, arm, side) for arm, one in enumerate(found) for side, p in enumerate((comparisons[arm].p_t, one.p))]
    corrected: dict[tuple[int, int], float] = {}
    for p, arm, side in sorted(each):
        both = sum((other, 0) in corrected and (other, 1) in corrected for other in range(m))
        reached = max(reached, min(1.0, p * max(1, m - both)))
        corrected[arm, side] = reached
    out = []
    for arm, (comparison, one) in enumerate(zip(comparisons, found, strict=True)):
        same = None if one.p is None else corrected[arm, 1]
        not_worse = None if one.p_not_worse is None or same is None else min(same, one.p_not_worse * m)
        p_t = None if comparison.p_t is None else corrected[arm, 0]
        out.append((attrs.evolve(comparison, p_t_holm=p_t), attrs.evolve(one, p_corrected=same, p_not_worse_corrected=not_worse)))
    return tuple(out)


def answer(comparison: Comparison, found: Equivalence, *, higher_is_better: bool = True) -> str:
    """What may be said of `other`, after the corrections: one of the constants above, or both of a difference and of its smallness."""
    alpha = level(comparison.confidence)
    if comparison.sd == 0 and comparison.difference == 0:
        return SAME_EVERYWHERE
    p = comparison.p_t_holm if comparison.p_t_holm is not None else comparison.p_t
    differs = p is not None and p <= alpha
    same = found.p_corrected is not None and found.p_corrected <= alpha
    if differs and comparison.difference is not None:
        word = BETTER if (comparison.difference > 0) == higher_is_better else WORSE
        return f"{word}, by less than the margin" if same else word
    if same:
        return SAME
    return NOT_WORSE if found.p_not_worse_corrected is not None and found.p_not_worse_corrected <= alpha else NOT_TOLD


def tost_power(n: int, margin: float, alpha: float = 0.05, difference: float = 0.0) -> float:
    """Probability that n seeds show equivalence, in standard deviations of the paired differences (Phillips 1990).

    Given the sample's variance, the mean has to lie within the margin less t · sd / √n, either way; this is integrated over the variance's distribution.
    """
    from scipy import integrate, stats

    assert n >= 2 and margin > 0 and 0 < alpha < 0.5, (n, margin, alpha)
    t = float(stats.t.isf(alpha, n - 1))
    most = margin * math.sqrt(n) / t  # a larger sd leaves no room

    def given(sd: float) -> float:
        room = margin - t * sd / math.sqrt(n)
        inside = stats.norm.cdf((room - difference) * math.sqrt(n)) - stats.norm.cdf((-room - difference) * math.sqrt(n))
        return float(inside * 2 * sd * (n - 1) * stats.chi2.pdf(sd * sd * (n - 1), n - 1))

    return float(integrate.quad(given, 0.0, most, limit=200)[0])
