"""The sign-flip test: a permutation test of paired differences. Torch-free."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["EXACT_UP_TO", "sign_flip", "smallest_p"]

#: Up to so many seeds all 2^n flips are counted (8 MiB, some milliseconds).
EXACT_UP_TO = 20
#: Beyond, so many random ones are; the standard error of a p of 0.05 is then 0.0007.
RESAMPLES = 99_999


def smallest_p(n: int) -> float:
    """The smallest two-sided p that n differences can show: the flip that makes all signs alike, and its mirror, of 2^n; 1 where n < 2."""
    if n < 2:
        return 1.0
    return 2.0 ** (1 - n) if n <= EXACT_UP_TO else 2 / (RESAMPLES + 1)


def sign_flip(differences: npt.ArrayLike, resolution: float) -> tuple[float, bool]:
    """Two-sided p of the mean difference under random signs, and whether it is exact (Fisher 1935, §21; Ernst 2004).

    Args:
        differences: n finite numbers, other − base.
        resolution: differences are rounded to multiples of it, so that sums are exact and ties are ties; 0 where all values are 0.
    """
    import numpy as np
    from scipy import stats

    steps = np.rint(np.asarray(differences) / max(resolution, 1e-100))
    if len(steps) > EXACT_UP_TO:
        rng = np.random.default_rng(0)
        test = stats.permutation_test(
            (steps,), np.sum, permutation_type="samples", n_resamples=RESAMPLES, batch=10_000, vectorized=True, rng=rng
        )
        return float(test.pvalue), False
    sums = np.zeros(1)
    for step in steps:  # scipy's own enumeration takes 0.3 s at n = 16, this 1 ms
        sums = np.concatenate([sums + step, sums - step])
    return float(np.mean(np.abs(sums) >= abs(sums[0]))), True
