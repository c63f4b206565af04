"""Keyed randomness as tensors: what `ibllm_core.interfaces.randomness` gives, on the device where it is used."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .randomness import Stream


class Rng:
    """Random tensors for a batch of samples; each sample has its own stream.

    Args:
        key: words that name the purpose, e.g. ``(seed, "draw", step)``.
        samples: (b) the samples' own numbers; equal numbers give equal draws.
        device: where the tensors go.

    The numbers are made on the CPU, so that a job draws the same ones on every device.
    """

    def __init__(self, key: tuple[int | str, ...], samples: npt.ArrayLike, device: torch.device | str = "cpu") -> None:
        self._key, self._samples, self.device = key, np.asarray(samples), torch.device(device)
        self._stream = Stream(key, self._samples)

    def __len__(self) -> int:
        return len(self._stream)

    def fold(self, *words: int | str) -> Rng:
        """An independent generator for the same samples."""
        return Rng((*self._key, *words), self._samples, self.device)

    def normal(self, *shape: int) -> Tensor:
        """(b *shape) float32, standard normal."""
        return self._tensor(self._stream.normal(*shape).astype(np.float32))

    def uniform(self, *shape: int) -> Tensor:
        """(b *shape) float32 in [0, 1), of 24 bits, so that none is rounded up to 1."""
        return self._tensor((self._stream.bits(*shape) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24))

    def integers(self, high: int, *shape: int) -> Tensor:
        """(b *shape) int64 in [0, high)."""
        return self._tensor(self._stream.integers(high, *shape))

    def _tensor(self, values: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(self.device, non_blocking=True)


@functools.cache
def leave_uncompiled() -> None:
    """Has `torch.compile` step around the making of numbers: it cannot trace numpy's unsigned integers, and would gain nothing."""
    for name in ("fold", "normal", "uniform", "integers"):
        setattr(Rng, name, torch.compiler.disable(getattr(Rng, name)))  # type: ignore[no-untyped-call]
