"""Random numbers that are handed in: what a sampler draws becomes an input of its graph. Shapes: b batch, t tokens of the text."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
import torch
from torch import Tensor

from ibllm_core.interfaces.noise import Rng


@attrs.frozen
class Draw:
    """One call of a generator.

    Attributes:
        kind: ``normal``, or ``uniform`` in [0, 1).
        shape: an item's, without b; "t" stands for the number of the text's tokens.
    """

    kind: str
    shape: tuple[int | str, ...]

    def sizes(self, tokens: int) -> tuple[int, ...]:
        """An item's shape for a text of so many tokens."""
        return tuple(tokens if size == "t" else int(size) for size in self.shape)

    def numbers(self, rng: Rng, tokens: int) -> Tensor:
        """(b *shape) numbers of the kind that is asked for."""
        draw = rng.normal if self.kind == "normal" else rng.uniform
        return draw(*self.sizes(tokens))


def example(items: int, purpose: str, device: torch.device | str = "cpu") -> Rng:
    """A keyed generator for so many items of an example that a program is traced with or compared on."""
    return Rng((0, "export", purpose), np.arange(items), torch.device(device))


class Handed(Rng):
    """A generator that hands out tensors in the order in which it is asked.

    Purposes (`fold`) share the one order, so a sampler has to ask in the same order each time: one whose path depends on its numbers cannot be traced
    either.

    Args:
        like: any tensor (b …).
        numbers: what to hand out, each (b *shape).
    """

    def __init__(self, like: Tensor, numbers: Sequence[Tensor] = ()) -> None:
        # Nothing of the keyed generator is used, and what its constructor hashes cannot be traced.
        self.device, self._like, self._numbers, self._place = like.device, like, numbers, 0

    def __len__(self) -> int:
        return self._like.shape[0]

    def fold(self, *words: int | str) -> Rng:
        """The same generator: whatever the purpose, the next numbers are handed out."""
        return self

    def normal(self, *shape: int) -> Tensor:
        return self._next("normal", shape)

    def uniform(self, *shape: int) -> Tensor:
        return self._next("uniform", shape)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Of uniform numbers, of 24 bits."""
        return (self.uniform(*shape) * high).floor().long()

    def kept(self, dropout: float, *shape: int) -> Tensor:
        return self.uniform(*shape) >= dropout

    def _next(self, kind: str, shape: Sequence[int]) -> Tensor:
        self._place += 1
        return self._numbers[self._place - 1]


class Asked(Handed):
    """A generator that draws an example's numbers and keeps account of what it was asked for."""

    def __init__(self, like: Tensor) -> None:
        super().__init__(like)
        self.draws: list[Draw] = []

    def _next(self, kind: str, shape: Sequence[int]) -> Tensor:
        self.draws.append(Draw(kind, tuple(shape)))
        return self.draws[-1].numbers(example(len(self), str(len(self.draws)), self.device), 0)
