"""Keyed randomness: every number is a pure function of its key and its place, never of what was drawn before.

A key is derived from words (seed, purpose, step, split, …) and a sample's own number selects its stream, so results do not
depend on batch size, workers, ranks or restarts. Torch-free; `ibllm_core.interfaces.noise` makes
the numbers as tensors, `ibllm.blocks.streams` as arrays.

The generator is SplitMix64 read at arbitrary positions: output *i* of a stream is ``mix(key + i * GOLDEN)`` (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

GOLDEN, M1, M2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def derive_key(*words: int | str) -> int:
    """A 64-bit key from any words; each word's type and length count, so ``("a", "bc")`` and ``("ab", "c")`` differ."""
    digest = hashlib.blake2b(digest_size=8)
    for word in words:
        text = f"{type(word).__name__}:{word}".encode()
        digest.update(len(text).to_bytes(4, "little") + text)
    return int.from_bytes(digest.digest(), "little")


def mix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's output function: any bits to bits that look drawn at random, one to one."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(M1)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(M2)
    return z ^ (z >> np.uint64(31))
