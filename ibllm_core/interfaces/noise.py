"""Keyed randomness as tensors: the integers of `ibllm_core.interfaces.randomness`, made on the device that uses them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .randomness import GOLDEN, M1, M2, derive_key


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device, which is not waited for: copied from pinned memory where they come from the CPU to an accelerator."""
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is not None and accelerator.type == device.type and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def _signed(word: int) -> int:
    """A word of 64 bits as int64, whose sums and products wrap around to the same bits."""
    return (word + 2**63) % 2**64 - 2**63


_GOLDEN, _M1, _M2 = (_signed(word) for word in (GOLDEN, M1, M2))


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Shifted to the right with zeros coming in; int64's own shift repeats the sign."""
    moved: Tensor = (z >> bits) & (2 ** (64 - bits) - 1)
    return moved


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * _M1
    z = (z ^ _shifted(z, 27)) * _M2
    return z ^ _shifted(z, 31)


#: Kinds of devices without float64, on which normal numbers are made of fewer bits.
SINGLE = {"mps"}
#: The generator of the pass that is under way, and how often it was asked.
PASS: ContextVar[tuple[Rng, list[int]] | None] = ContextVar("pass", default=None)


class Rng:
    """Random tensors for a batch of samples; each sample has its own stream.

    Args:
        key: words that name the purpose, e.g. ``(seed, "draw")``; hashed on the host.
        samples: (b) the samples' own numbers, int64 and on the device where they are a tensor; equal numbers give equal draws.
        device: where the tensors are made; their integers are the same on every device.
        step: of training; mixed in on the device, so that an iteration that is captured draws afresh. A tensor is () int64 on the device.
    """

    def __init__(
        self,
        key: tuple[int | str, ...],
        samples: npt.ArrayLike | Tensor,
        device: torch.device | str = "cpu",
        step: int | Tensor | None = None,
    ) -> None:
        self._key, self.device, self._position, self._step = key, torch.device(device), 0, step
        numbers = samples if isinstance(samples, Tensor) else np.atleast_1d(np.asarray(samples)).astype(np.int64)
        self._first = int(numbers[0]) if isinstance(numbers, np.ndarray) and len(numbers) else 0
        rows = numbers if isinstance(numbers, Tensor) else on_device(torch.from_numpy(numbers), self.device)
        self._samples = _mix(rows * _GOLDEN + _M1)
        if step is not None:
            self._samples = _mix(self._samples + (_signed(step * GOLDEN) if isinstance(step, int) else step * _GOLDEN))

    def __len__(self) -> int:
        return len(self._samples)

    @staticmethod
    def of_pass(rows: int, device: torch.device) -> Rng:
        """For dropout and the like: a generator for a batch of so many rows that goes through a part; each call gives an independent one.

        In a cycle it is keyed by seed, step, part, call and sample. Elsewhere there is no such thing: torch's global generator decides.
        """
        under_way = PASS.get()
        if under_way is None:
            return Rng(("pass", int(torch.randint(2**62, (), device="cpu"))), np.arange(rows), device)
        rng, calls = under_way
        calls[0] += 1
        return rng.fold(calls[0] - 1)._rows(rows)

    def fold(self, *words: int | str) -> Rng:
        """An independent generator for the same samples."""
        other = copy.copy(self)
        other._key, other._position = (*self._key, *words), 0
        return other

    def _rows(self, count: int) -> Rng:
        """For a batch of so many rows, which are the samples again and again where there are more."""
        if count == len(self):
            return self
        other, place = copy.copy(self), torch.arange(count, device=self.device)
        other._samples = _mix(self._samples[place % len(self)] + place // len(self))
        return other

    def normal(self, *shape: int) -> Tensor:
        """(b *shape) float32, standard normal."""
        u = self._unit(2, *shape)
        return ((-2.0 * (-u[:, 0]).log1p()).sqrt() * (2.0 * math.pi * u[:, 1]).cos()).to(torch.float32)

    def uniform(self, *shape: int) -> Tensor:
        """(b *shape) float32 in [0, 1), of 24 bits, so that none is rounded up to 1."""
        return _shifted(self._bits(*shape), 40).to(torch.float32) * 2.0**-24

    def integers(self, high: int, *shape: int) -> Tensor:
        """(b *shape) int64 in [0, high)."""
        return (self._unit(*shape) * high).floor().long()

    def kept(self, dropout: float, *shape: int) -> Tensor:
        """(b *shape) bool, False with probability `dropout`, of 16 bits."""
        count = math.prod(shape)
        shorts = self._bits(-(-count // 4)).view(torch.int16)[:, :count]
        return (shorts >= round(dropout * 2**16) - 2**15).reshape(len(self), *shape)

    def _unit(self, *shape: int) -> Tensor:
        """(b *shape) in [0, 1), float64 of 53 bits; on a device without it what `uniform` gives."""
        return self.uniform(*shape) if self.device.type in SINGLE else _shifted(self._bits(*shape), 11).to(torch.float64) * 2.0**-53

    def _bits(self, *shape: int) -> Tensor:
        """(b *shape) int64 of any bits, the next ones."""
        count = math.prod(shape)
        offsets = torch.arange(self._position + 1, self._position + 1 + count, device=self.device) * _GOLDEN
        self._position += count
        return _mix(_mix(self._samples + _signed(derive_key(*self._key)))[:, None] + offsets).view(len(self), *shape)


@contextmanager
def drawing_from(rng: Rng) -> Iterator[Callable[[], bool]]:
    """Within, `Rng.of_pass` draws from `rng`, and torch's global generators start from its key and first sample, for what libraries draw from them.

    Gives a function that says whether something was drawn from these by then.
    """
    token = PASS.set((rng, [0]))
    try:
        step = (rng._step,) if isinstance(rng._step, int) else ()  # nobody draws from them in an iteration that is captured
        with seeded(derive_key(*rng._key, *step, rng._first), rng.device) as generators:
            start = [generator.get_state() for generator in generators]
            yield lambda: not all(torch.equal(state, generator.get_state()) for state, generator in zip(start, generators, strict=True))
    finally:
        PASS.reset(token)


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[Sequence[torch.Generator]]:
    """Within, torch's global generators of the CPU and of a device start from a seed; afterwards they are where they were."""
    generators = [torch.default_generator]
    if torch.device(device).type == "cuda" and not torch.cuda.is_current_stream_capturing():
        generators.append(torch.cuda.default_generators[torch.cuda.current_device()])
    states = [generator.get_state() for generator in generators]
    for generator in generators:
        generator.manual_seed(seed)
    try:
        yield generators
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
