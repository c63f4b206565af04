"""Keyed randomness as arrays, for datasets: the numbers of `ibllm_core.interfaces.noise`. Torch-free."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ibllm_core.interfaces import randomness

U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

GOLDEN, M1 = np.uint64(randomness.GOLDEN), np.uint64(randomness.M1)


class Stream:
    """Random numbers for a batch of samples, one independent stream for each.

    Args:
        key: words that name the purpose, e.g. ``(seed, "weather", split)``.
        samples: (b) the samples' own numbers.

    Each call advances the position by as many numbers a sample as it drew, so the same calls in the same order give the same
    numbers whatever else is in the batch.
    """

    def __init__(self, key: tuple[int | str, ...], samples: npt.ArrayLike) -> None:
        numbers = np.atleast_1d(np.asarray(samples)).astype(np.uint64)
        with np.errstate(over="ignore"):
            self._base: U64 = randomness.mix(np.uint64(randomness.derive_key(*key)) + randomness.mix(numbers * GOLDEN + M1))
        self._position = 0

    def __len__(self) -> int:
        return len(self._base)

    def bits(self, *shape: int) -> U64:
        """(b *shape) uniform 64-bit integers."""
        count = math.prod(shape)
        offsets = np.arange(self._position + 1, self._position + 1 + count, dtype=np.uint64)
        self._position += count
        with np.errstate(over="ignore"):
            out = randomness.mix(self._base[:, None] + offsets[None, :] * GOLDEN)
        return out.reshape(len(self._base), *shape)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> F64:
        """(b *shape) uniform in [low, high)."""
        unit = (self.bits(*shape) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return low + (high - low) * unit

    def integers(self, high: int | npt.ArrayLike, *shape: int) -> I64:
        """(b *shape) integers in [0, high); `high` broadcasts against the result. The bias is below high / 2^53."""
        drawn: I64 = np.floor(self.uniform(*shape) * np.asarray(high)).astype(np.int64)
        return drawn

    def normal(self, *shape: int) -> F64:
        """(b *shape) standard normal (Box and Muller 1958)."""
        u = self.uniform(2, *shape)
        return np.sqrt(-2.0 * np.log1p(-u[:, 0])) * np.cos(2.0 * np.pi * u[:, 1])

    def permutation(self, n: int) -> I64:
        """(b n) a permutation of ``range(n)`` for each sample."""
        return np.argsort(self.uniform(n), axis=1, kind="stable").astype(np.int64)
