"""Multi-head attention with rotary position embedding.

Shapes: b batch, t query places, s key places, d width, m width of the memory, h heads, e width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017). Keys and values are computed apart from the queries, so that a caller can cache them."""

    def __init__(self, width: int, heads: int, memory: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads = {heads}: expected a divisor of width = {width}")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.memory = nn.Linear(memory or width, 2 * width)
        self.out = nn.Linear(width, width)

    def keys_values(self, memory: Tensor, rotary: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(b s m) → keys and values, each (b h s e); `rotary` (2 s e/2) rotates the keys."""
        key, value = self.memory(memory).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return key if rotary is None else apply_rotary(key, rotary), value

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, *, causal: bool = False, rotary: Tensor | None = None
    ) -> Tensor:
        """x (b t d), keys and values (b h s e), mask (b s) or (b t s) bool, its `attention_bias` or None, rotary (2 t e/2) or None → (b t d)."""
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        if rotary is not None:
            query = apply_rotary(query, rotary)
        bias = attention_bias(mask, x) if mask is not None and mask.dtype == torch.bool else mask
        y = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias, is_causal=causal)
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return out


def rotary_embedding(places: int, width: int) -> Tensor:
    """(2 places e/2) cosine and sine of i·10000^(−2j/e) for place i and pair j (Su et al. 2021, eq. 15).

    Raises:
        ValueError: the width of a head, e, is odd.
    """
    if width % 2:
        raise ValueError(f"heads: expected heads of an even width for rotary positions, not {width}")
    angles = torch.arange(places)[:, None] * 10000.0 ** (-torch.arange(0, width, 2) / width)
    return torch.stack([angles.cos(), angles.sin()])


def apply_rotary(x: Tensor, rotary: Tensor) -> Tensor:
    """Rotates each pair of numbers of x (b h t e) by its place's angle, so that inner products depend on distances alone (Su et al. 2021, eq. 34).

    Number j is paired with j + e/2. `rotary` (2 t e/2) is a `rotary_embedding`.
    """
    cos, sin = rotary.to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def attention_bias(mask: Tensor, x: Tensor) -> Tensor:
    """mask (b s) or (b t s) bool → (b 1 1 s) or (b 1 t s), what is added to the scores: 0, and −∞ where a place may not be seen.

    Several layers that look at the same places make it once. It has the type that attention from `x` computes in, under autocast too.
    """
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if kind != "meta" and torch.is_autocast_enabled(kind) else x.dtype
    bias = torch.where(mask, 0.0, -torch.inf).to(dtype)
    return bias.unsqueeze(1) if mask.dim() == 3 else bias[:, None, None]


def causal_mask(mask: Tensor) -> Tensor:
    """Padding mask (b s) → (b s s): each place attends to itself and to the places before it that hold something."""
    places = torch.arange(mask.shape[1], device=mask.device)
    before, same = places[:, None] > places, places[:, None] == places
    return (before & mask[:, None]) | same
