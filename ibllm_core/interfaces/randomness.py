"""Keyed randomness: every number is a pure function of its key and its place, never of what was drawn before.

A key is derived from words (seed, purpose, step, split, …) and a sample's own number selects its stream, so results do not
depend on batch size, workers, ranks or restarts. Torch-free; `ibllm_core.interfaces.noise` gives the same numbers as tensors.

The generator is SplitMix64 read at arbitrary positions: output *i* of a stream is ``mix(key + i * GOLDEN)`` (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
M1 = np.uint64(0xBF58476D1CE4E5B9)
M2 = np.uint64(0x94D049BB133111EB)


def derive_key(*words: int | str) -> int:
    """A 64-bit key from any words; each word's type and length count, so ``("a", "bc")`` and ``("ab", "c")`` differ."""
    digest = hashlib.blake2b(digest_size=8)
    for word in words:
        text = f"{type(word).__name__}:{word}".encode()
        digest.update(len(text).to_bytes(4, "little") + text)
    return int.from_bytes(digest.digest(), "little")


def _mix(z: U64) -> U64:
    z = (z ^ (z >> np.uint64(30))) * M1
    z = (z ^ (z >> np.uint64(27))) * M2
    return z ^ (z >> np.uint64(31))


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
            self._base: U64 = _mix(np.uint64(derive_key(*key)) + _mix(numbers * GOLDEN + M1))
        self._position = 0

    def __len__(self) -> int:
        return len(self._base)

    def bits(self, *shape: int) -> U64:
        """(b *shape) uniform 64-bit integers."""
        count = math.prod(shape)
        offsets = np.arange(self._position + 1, self._position + 1 + count, dtype=np.uint64)
        self._position += count
        with np.errstate(over="ignore"):
            out = _mix(self._base[:, None] + offsets[None, :] * GOLDEN)
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
