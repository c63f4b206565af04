"""Image tokens as digits. Shapes: b batch, m tokens, q digits a token, v levels of a digit, d width, … any axes before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import mul

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm_core.interfaces.context import ImageTokens


class Digits(nn.Module):
    """Ids ↔ digits in a mixed radix, the first digit the least.

    A codec whose ids have digits (finite scalar quantisation) says so (`ImageTokens.levels`). Predicted one by one, digits come in combinations that no
    training image shows; one softmax over all ids knows nothing of an id that it has never seen. Not `factored`, or where ids have no digits, a token has one
    digit: its id.
    """

    basis: Tensor
    radix: Tensor

    def __init__(self, tokens: ImageTokens, factored: bool) -> None:
        super().__init__()
        self.levels = tokens.levels if factored and tokens.levels else (tokens.vocabulary,)
        assert math.prod(self.levels) == tokens.vocabulary
        self.register_buffer("basis", torch.tensor([1, *accumulate(self.levels[:-1], mul)]), persistent=False)
        self.register_buffer("radix", torch.tensor(self.levels), persistent=False)

    def split(self, ids: Tensor) -> Tensor:
        """ids (…) → digits (… q)."""
        return ids.unsqueeze(-1).div(self.basis, rounding_mode="floor") % self.radix

    def join(self, digits: Tensor) -> Tensor:
        """digits (… q) → ids (…)."""
        return (digits * self.basis).sum(-1)

    def hide(self, digits: Tensor, hidden: Tensor) -> Tensor:
        """digits (… q), hidden (… q) bool → digits (… q): a hidden one is one level above its last."""
        return torch.where(hidden, self.radix, digits)


class DigitEmbedding(nn.Module):
    """The sum of one vector a digit. There is a further one for each digit where it is hidden (`Digits.hide`)."""

    start: Tensor

    def __init__(self, levels: Sequence[int], width: int) -> None:
        super().__init__()
        sizes = [count + 1 for count in levels]
        self.embedding = nn.Embedding(sum(sizes), width)
        nn.init.normal_(self.embedding.weight, std=len(levels) ** -0.5)
        self.register_buffer("start", torch.tensor([0, *accumulate(sizes[:-1])]), persistent=False)

    def each(self, digits: Tensor) -> Tensor:
        """digits (… q) → (… q d)."""
        vectors: Tensor = self.embedding(digits + self.start)
        return vectors

    def forward(self, digits: Tensor) -> Tensor:
        """digits (… q) → (… d)."""
        return self.each(digits).sum(-2)


class DigitHeads(nn.Module):
    """A softmax a digit, each a linear layer: their product is a distribution over tokens whose digits are independent of each other."""

    def __init__(self, levels: Sequence[int], width: int) -> None:
        super().__init__()
        self.head = nn.ModuleList(nn.Linear(width, count) for count in levels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """x (… d) → the logits (… v) of each digit."""
        return [head(x) for head in self.head]


class ChainedDigitHeads(nn.Module):
    """Each digit given those before it in its token, so that any distribution over tokens can be learned.

    Digit i's logits are linear in GELU(A_i x + Σ_{j<i} e_j(digit j)): a small network goes on within a token where the transformer's causal attention ends,
    as the depth transformer of Lee et al. 2022 does (RQ-Transformer, section 3.2). With one digit there is nothing to chain, and the head is linear in x.
    """

    def __init__(self, levels: Sequence[int], width: int) -> None:
        super().__init__()
        self.count = len(levels)
        self.heads = DigitHeads(levels, width)
        self.enter = nn.Linear(width, self.count * width) if self.count > 1 else None
        self.before = DigitEmbedding(levels, width) if self.count > 1 else None

    def forward(self, x: Tensor, digits: Tensor) -> list[Tensor]:
        """x (… d), digits (… q) → the logits (… v) of each digit, given those before it."""
        if self.enter is None or self.before is None:
            return self.heads(x)
        before = F.pad(self.before.each(digits).cumsum(-2), (0, 0, 1, -1))
        inner = F.gelu(self.enter(x).unflatten(-1, (self.count, -1)) + before).unbind(-2)
        return [head(place) for head, place in zip(self.heads.head, inner, strict=True)]

    def draw(self, x: Tensor, choose: Callable[[Tensor, int], Tensor]) -> Tensor:
        """One token, digit by digit: x (k d) → digits (b q); `choose` makes of the logits (k v) of a digit, and its number, the digit (b).

        Where k is 2b (guidance), both halves of x go on with the same digits.
        """
        digits = x.new_zeros(len(x), self.count, dtype=torch.long)
        for number in range(self.count):
            drawn = choose(self(x, digits)[number], number)
            digits[:, number] = drawn.repeat(len(x) // len(drawn))
        return digits[: len(drawn)]


def token_losses(logits: Tensor, ids: Tensor) -> Tensor:
    """logits (b t v), ids (b t) → (b t) −log p of each token in nats, in float32: row by row, which is what softmax kernels are made for."""
    return F.cross_entropy(logits.flatten(0, 1).float(), ids.flatten(), reduction="none").view_as(ids)


def digit_losses(logits: Sequence[Tensor], digits: Tensor) -> Tensor:
    """The logits (b m v) of each digit, digits (b m q) → (b m q) −log p in nats."""
    return torch.stack([token_losses(some, digits[..., number]) for number, some in enumerate(logits)], -1)
