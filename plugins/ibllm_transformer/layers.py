"""The layers that both transformer parts are made of.

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

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(b s m) → keys and values, each (b h s e)."""
        key, value = self.memory(memory).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return key, value

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """x (b t d), keys and values (b h s e), mask (b s) bool or None → (b t d)."""
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        seen = None if mask is None else mask[:, None, None, :]
        y = F.scaled_dot_product_attention(query, keys, values, attn_mask=seen, is_causal=causal)
        return self.out(y.transpose(1, 2).flatten(2))


def feed_forward(width: int, ratio: float) -> nn.Sequential:
    """(… d) → (… d)."""
    hidden = max(1, int(width * ratio))
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


def positions(places: int, width: int) -> nn.Parameter:
    """(places d) learned positions of the size of the embeddings."""
    return nn.Parameter(torch.randn(places, width) * 0.5)
