"""Multi-head attention, which parts of several families are made of, and the guidance that their decoders share.

Shapes: b batch, t places that ask, s places asked, d width, m width of the places asked, h heads, e width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017). Keys and values are made apart from the asking, so that they can be kept."""

    def __init__(self, width: int, heads: int, memory: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads = {heads}: expected a divisor of width = {width}")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.memory = nn.Linear(memory or width, 2 * width)
        self.out = nn.Linear(width, width)

    def keys_values(self, memory: Tensor, turn: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(b s m) → keys and values, each (b h s e); the keys turned by `turn` (2 s e/2)."""
        key, value = self.memory(memory).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return key if turn is None else turned(key, turn), value

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, *, causal: bool = False, turn: Tensor | None = None
    ) -> Tensor:
        """x (b t d), keys and values (b h s e), mask (b s) or (b t s) bool or None, turn (2 t e/2) or None → (b t d)."""
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        if turn is not None:
            query = turned(query, turn)
        if mask is not None:
            mask = mask.unsqueeze(1) if mask.dim() == 3 else mask[:, None, None, :]
        y = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, is_causal=causal)
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return out


def turned(x: Tensor, turn: Tensor) -> Tensor:
    """Rotary positions: each pair of numbers of x (b h t e) turned by its place's angle, so that products depend on distances alone.

    Number j is paired with j + e/2. Su et al. 2021, eq. 34.
    """
    cos, sin = turn.to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def guided(conditional: Tensor, null: Tensor, scale: float) -> Tensor:
    """null + s·(conditional − null): classifier-free guidance of logits or velocities (Ho and Salimans 2022, eq. 6 with s = 1 + w)."""
    return null + scale * (conditional - null)
