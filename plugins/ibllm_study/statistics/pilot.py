"""How many seeds a study takes, from the differences that a pilot found: by resampling them, whatever their distribution. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

__all__ = ["LEAST", "MOST", "Needed", "resampled_power", "seeds_needed"]

#: Fewer differences say next to nothing of their distribution.
LEAST = 3
#: More seeds than this are not looked for.
MOST = 200
_STUDIES, _PILOTS = 2_000, 100


@attrs.frozen(kw_only=True)
class Needed:
    """Seeds for a power.

    Attributes:
        seeds: the fewest with the power; None where `MOST` do not have it.
        low, high: the middle 80 % of what pilots as large as this one would have said; None for more than `MOST`.
        pilot: seeds of the pilot.
        same: whether this is to show that the arms are the same within the margin, with no true difference; else to find the pilot's difference.
    """

    seeds: int | None
    low: int | None
    high: int | None
    pilot: int
    same: bool


def _centred(differences: Array) -> Array:
    """Differences from their mean, with the variance that they estimate: a resample's would be (n − 1) / n of it."""
    import numpy as np

    n = differences.shape[-1]
    return np.asarray((differences - differences.mean(axis=-1, keepdims=True)) * math.sqrt(n / (n - 1)))


def resampled_power(differences: Sequence[float], seeds: int, alpha: float, margin: float | None = None, studies: int = _STUDIES) -> float:
    """Share of simulated studies of so many seeds, drawn from the pilot's differences, in which the t-test passes (Efron & Tibshirani 1993, §25).

    Args:
        differences: of the pilot's seeds, at least `LEAST`.
        alpha: two-sided level of the test of a difference; of each side, with a margin.
        margin: then the share in which the two one-sided tests find equivalence, the true difference being zero.
    """
    import numpy as np

    return _power(np.asarray(differences, dtype=float), seeds, alpha, margin, studies)


def _power(differences: Array, seeds: int, alpha: float, margin: float | None, studies: int) -> float:
    import numpy as np
    from scipy import special

    rng = np.random.default_rng(0)
    noise = _centred(differences)
    drawn = noise[rng.integers(len(noise), size=(studies, seeds))]
    if margin is None:
        drawn = drawn + differences.mean()
    mean, error = drawn.mean(axis=1), drawn.std(axis=1, ddof=1) / math.sqrt(seeds)
    # Seeds that are all alike have no error; no test is made of them, as with real ones.
    varies = error > 1e-12 * np.abs(differences).max()
    with np.errstate(divide="ignore", invalid="ignore"):
        if margin is None:
            passes = 2 * special.stdtr(seeds - 1, -np.abs(mean / error)) <= alpha
        else:
            passes = (
                np.maximum(special.stdtr(seeds - 1, -(mean + margin) / error), special.stdtr(seeds - 1, (mean - margin) / error)) <= alpha
            )
    return float((varies & passes).mean())


def seeds_needed(differences: Sequence[float], alpha: float, power: float = 0.8, margin: float | None = None) -> Needed:
    """The fewest seeds with which studies drawn from a pilot's differences pass, and how far that can be trusted.

    Args:
        differences: of the pilot's seeds, at least `LEAST`, not all equal.
        alpha: level of the test, corrected already.
        margin: then to show sameness within it.
    """
    import numpy as np

    own = np.asarray(differences, dtype=float)
    rng = np.random.default_rng(1)
    others = own[rng.integers(len(own), size=(_PILOTS, len(own)))]
    found = sorted(_fewest(other, alpha, power, margin, 400) if np.ptp(other) else MOST + 1 for other in others)
    low, high = found[_PILOTS // 10], found[-_PILOTS // 10]
    best = _fewest(own, alpha, power, margin, _STUDIES)
    return Needed(seeds=_known(best), low=_known(low), high=_known(high), pilot=len(own), same=margin is not None)


def _known(seeds: int) -> int | None:
    return seeds if seeds <= MOST else None


def _fewest(differences: Array, alpha: float, power: float, margin: float | None, studies: int) -> int:
    """By bisection, as more seeds have more power; MOST + 1 where none is enough."""
    low, high = 2, 4
    while high <= MOST and _power(differences, high, alpha, margin, studies) < power:
        low, high = high + 1, 2 * high
    if high > MOST:
        high = MOST + 1
    while low < high:
        middle = (low + high) // 2
        if _power(differences, middle, alpha, margin, studies) >= power:
            high = middle
        else:
            low = middle + 1
    return high
