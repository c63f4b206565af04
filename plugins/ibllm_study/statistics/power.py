"""What a number of seeds could show, told before anything is trained. Torch-free."""

from __future__ import annotations

from itertools import count

import attrs

from .samples import level
from .signflip import EXACT_UP_TO, smallest_p

__all__ = ["PowerPrediction", "power", "predict_power"]


#: Differences beyond so many sd are not looked for.
_LARGEST = 1_000.0


@attrs.frozen(kw_only=True)
class PowerPrediction:
    """What so many seeds could show in so many comparisons with the base. ``…_holm``: after Holm's correction, at its strictest step (level / comparisons).

    Attributes:
        seeds, comparisons: the design.
        confidence: 1 − confidence is the two-sided level.
        power: the probability with which a difference is to be found, in (0, 1).
        sd: standard deviation of paired differences in the figure's units, where known.
        smallest_p, smallest_p_holm: the smallest p that a sign-flip test could give; 1 where seeds < 2.
        seeds_needed, seeds_needed_holm: the fewest seeds whose smallest p passes the level; None where no number's does (levels below 2e-6).
        detectable, detectable_holm: the smallest mean difference a paired t-test finds with that power, in `sd`; None where there is none below
            1,000 sd.
        seeds_for_one_sd, seeds_for_one_sd_holm: the fewest seeds with which a difference of one `sd` is found with that power.
    """

    seeds: int
    comparisons: int
    confidence: float
    power: float
    sd: float | None
    smallest_p: float
    smallest_p_holm: float
    seeds_needed: int | None
    seeds_needed_holm: int | None
    detectable: float | None
    detectable_holm: float | None
    seeds_for_one_sd: int
    seeds_for_one_sd_holm: int

    @property
    def difference(self) -> float | None:
        """`detectable` in the figure's units; None where `sd` is not known."""
        return None if self.sd is None or self.detectable is None else self.sd * self.detectable

    @property
    def difference_holm(self) -> float | None:
        """`detectable_holm` in the figure's units; None where `sd` is not known."""
        return None if self.sd is None or self.detectable_holm is None else self.sd * self.detectable_holm

    def sentences(self) -> tuple[str, ...]:
        """The same in plain words: what the sign-flip test can pass, what the t-test can find, what would suffice."""
        if self.comparisons < 1:
            return ("Nothing is compared with the base.",)
        if self.seeds < 2:
            return (f"Fewer than two seeds: there is no telling a difference from luck. {self._enough()}", self._suffices())
        return (self._flips(), self._finds(), self._suffices())

    @property
    def _corrected(self) -> str:
        return f"after Holm's correction over {self.comparisons} comparisons"

    def _flips(self) -> str:
        alpha = level(self.confidence)
        says = f"Sign-flip test: the smallest two-sided p that {self.seeds} seeds can show is {self.smallest_p:.3g}"
        if self.comparisons > 1:
            says += f", {self._corrected} {self.smallest_p_holm:.3g}"
        if self.smallest_p > alpha:
            return f"{says}: no difference, however large, can pass {alpha:g}. {self._enough()}"
        if self.smallest_p_holm > alpha:
            return f"{says}: one comparison by itself could pass {alpha:g}, none can after the correction. {self._enough()}"
        return f"{says}: a difference can pass {alpha:g}."

    def _enough(self) -> str:
        if self.seeds_needed_holm is None:
            return f"No number of seeds can pass {level(self.confidence):g} {self._corrected}."
        corrected = f", {self.seeds_needed_holm} {self._corrected}" if self.comparisons > 1 else ""
        return f"At least {self.seeds_needed} seeds can{corrected}."

    def _finds(self) -> str:
        def size(sds: float | None, units: float | None) -> str:
            if sds is None:
                return f"more than {_LARGEST:,.0f} sd"
            return f"{sds:.3g} sd" + ("" if units is None else f" ({units:.3g} in the figure's units)")

        corrected = f", {size(self.detectable_holm, self.difference_holm)} {self._corrected}" if self.comparisons > 1 else ""
        return (
            f"t-test: a difference of {size(self.detectable, self.difference)} is found in {100 * self.power:g} % of studies{corrected}; "
            "sd is the standard deviation of the differences between runs of the same seed."
        )

    def _suffices(self) -> str:
        corrected = f", {self.seeds_for_one_sd_holm} {self._corrected}" if self.comparisons > 1 else ""
        return f"To find a difference of one sd in {100 * self.power:g} % of studies takes {self.seeds_for_one_sd} seeds{corrected}."


def predict_power(seeds: int, comparisons: int, confidence: float = 0.95, power: float = 0.8, sd: float | None = None) -> PowerPrediction:
    """What `seeds` runs a variant could show in `comparisons` comparisons with the base.

    Args:
        seeds, comparisons: at least 0.
        confidence, power: in (0, 1).
        sd: of paired differences, from runs so far (`Comparison.sd`), in the figure's units; None or 0 where not known.
    """
    assert 0 < power < 1 and seeds >= 0 and comparisons >= 0, (seeds, comparisons, power)
    alpha, family = level(confidence), max(1, comparisons)
    strict = alpha / family
    return PowerPrediction(
        seeds=seeds,
        comparisons=comparisons,
        confidence=confidence,
        power=power,
        sd=sd or None,
        smallest_p=smallest_p(seeds),
        smallest_p_holm=min(1.0, family * smallest_p(seeds)),
        seeds_needed=_enough_seeds(alpha),
        seeds_needed_holm=_enough_seeds(strict),
        detectable=_detectable(seeds, alpha, power),
        detectable_holm=_detectable(seeds, strict, power),
        seeds_for_one_sd=_seeds_for(1.0, alpha, power),
        seeds_for_one_sd_holm=_seeds_for(1.0, strict, power),
    )


def power(n: int, d: float, alpha: float = 0.05) -> float:
    """Probability that a two-sided paired t-test of n seeds at level alpha finds a mean difference of d standard deviations of the differences.

    t² is noncentral F(1, n − 1, n d²) (Cohen 1988, §2.3.5). statsmodels' TTestPower.power gives the same, or nan for some large effects, and its
    solve_power ends at a wrong effect without a word: for n = 4, alpha = 0.005, power 0.8 at 3.42, whose power is 0.52 (version 0.15).
    """
    from scipy import stats

    assert n >= 2 and 0 < alpha < 1, (n, alpha)
    if d == 0:  # scipy's noncentral F is wrong without noncentrality
        return alpha
    return float(stats.ncf.sf(stats.f.isf(alpha, 1, n - 1), 1, n - 1, n * d * d))


def _enough_seeds(alpha: float) -> int | None:
    return next((n for n in range(2, EXACT_UP_TO + 1) if smallest_p(n) <= alpha), None)


def _seeds_for(d: float, alpha: float, target: float) -> int:
    """The fewest seeds that find a difference of d sd with the target power."""
    return next(n for n in count(2) if power(n, d, alpha) >= target)


def _detectable(n: int, alpha: float, target: float) -> float | None:
    """The difference, in sd, that n seeds find with the target power."""
    from scipy.optimize import brentq

    if n < 2 or power(n, _LARGEST, alpha) < target:
        return None
    high = 1.0
    while power(n, high, alpha) < target:
        high *= 2
    return float(brentq(lambda d: power(n, d, alpha) - target, 0.0, high))
