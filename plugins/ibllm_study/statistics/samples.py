"""One figure over the runs of one variant: mean, standard deviation, interval. What cannot be said is None with a reason in `note`, never nan."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["BOOTSTRAP_FROM", "EQUAL", "Summary", "all_equal", "level", "number", "summarise"]

#: From so many runs on, a mean's interval is a bootstrap's. On 2,000 simulated normal samples a BCa bootstrap of 95 % covered 84 % at n = 5, 89 % at 8,
#: 93 % at 20 and 30, 94 % at 40; on skewed ones (exponential, log-normal) less than the t-interval below 20 and as much from 40 on.
BOOTSTRAP_FROM = 40
_RESAMPLES = 9_999
#: A figure beyond 1e100 is taken as infinite, one below 1e-100 as zero: their squares are.
_LARGEST = 1e100
#: What is within this part of the largest figure is equal: the same sum in another order differs by less, two trainings by more.
EQUAL = 1e-12


@attrs.frozen(kw_only=True)
class Summary:
    """One figure over the runs of one variant.

    Attributes:
        n: runs that have the figure.
        mean: in the figure's units; None where n = 0.
        sd: standard deviation with n − 1; None where n < 2.
        low, high: the interval of the mean; None where n < 2, both `mean` where all values are equal.
        method: ``t`` or ``BCa bootstrap``; empty where there is no interval.
        confidence: of the interval, in (0, 1).
        left_out: values that were None, nan, infinite or beyond ±1e100.
        note: why something is None or has no width; empty otherwise.
    """

    n: int
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    method: str = ""
    confidence: float = 0.95
    left_out: int = 0
    note: str = ""


def level(confidence: float) -> float:
    """1 − confidence without the last digit's noise: 0.95 → 0.05."""
    assert 0 < confidence < 1, confidence
    return float(f"{1 - confidence:.6g}")


def number(value: float | None) -> float | None:
    """A figure to reckon with; None where it is missing, nan or infinite."""
    if value is None or not abs(value) <= _LARGEST:
        return None
    return float(value) if abs(value) >= 1 / _LARGEST else 0.0


def all_equal(values: npt.ArrayLike, step: float) -> bool:
    """Whether values differ by no more than a step."""
    import numpy as np

    return bool(np.ptp(values) <= step)


def summarise(values: Iterable[float | None], confidence: float = 0.95) -> Summary:
    """Mean, standard deviation and the mean's interval: Student's t below `BOOTSTRAP_FROM` runs, from there on a BCa bootstrap (Efron 1987)."""
    import numpy as np
    from scipy import special, stats

    given = [number(value) for value in values]
    used = [value for value in given if value is not None]
    said = Summary(n=len(used), confidence=confidence, left_out=len(given) - len(used))
    if not used:
        return attrs.evolve(said, note="no run has the figure")
    mean = math.fsum(used) / len(used)
    if len(used) == 1:
        return attrs.evolve(said, mean=mean, note="one run: no interval")
    if all_equal(used, EQUAL * max(map(abs, used))):
        return attrs.evolve(said, mean=mean, sd=0.0, low=mean, high=mean, method="t", note="all runs agree: the interval has no width")
    said = attrs.evolve(said, mean=mean, sd=float(np.std(used, ddof=1)))
    if len(used) >= BOOTSTRAP_FROM:
        rng = np.random.default_rng(0)  # the same values give the same interval
        found = stats.bootstrap((used,), np.mean, confidence_level=confidence, n_resamples=_RESAMPLES, batch=1_000, method="BCa", rng=rng)
        method, (low, high) = "BCa bootstrap", found.confidence_interval
    else:
        half = float(special.stdtrit(len(used) - 1, 0.5 + confidence / 2)) * float(np.std(used, ddof=1)) / math.sqrt(len(used))
        method, (low, high) = "t", (mean - half, mean + half)
    return attrs.evolve(said, low=float(low), high=float(high), method=method)
