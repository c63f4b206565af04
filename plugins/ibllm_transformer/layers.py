"""The layers that the transformer parts are made of.

Shapes: b batch, t places that ask, s places asked, d width, m width of the places asked, h heads, e width of a head, n latent places.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibllm.plugin import Attention, Latent


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward part, each behind a norm and beside a residual (pre-norm, Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int, ratio: float, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.hidden_norm, self.hidden = nn.LayerNorm(width), feed_forward(width, ratio)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, turn: Tensor | None = None) -> Tensor:
        """x (b t d), mask (b t) or (b t t), turn (2 t e/2) → (b t d)."""
        normed = self.attention_norm(x)
        x = x + self.drop(self.attention(normed, *self.attention.keys_values(normed, turn), mask, turn=turn))
        return x + self.drop(self.hidden(self.hidden_norm(x)))

    def cached(self, x: Tensor, keys: Tensor, values: Tensor, start: int, mask: Tensor) -> Tensor:
        """The same for the places start … start + t alone, without dropout; their keys and values are written into (b h s e) in place.

        x (b t d), mask (b start+t) or (b t start+t) → (b t d).
        """
        end = start + x.shape[1]
        normed = self.attention_norm(x)
        keys[:, :, start:end], values[:, :, start:end] = self.attention.keys_values(normed)
        x = x + self.attention(normed, keys[:, :, :end], values[:, :, :end], mask)
        return x + self.hidden(self.hidden_norm(x))


class DecoderLayer(nn.Module):
    """Self-attention, attention to the latent, and a feed-forward part, each behind a norm and beside a residual."""

    def __init__(self, width: int, heads: int, ratio: float, dropout: float, latent: int) -> None:
        super().__init__()
        self.own_norm, self.own = nn.LayerNorm(width), Attention(width, heads)
        self.latent_norm, self.latent = nn.LayerNorm(width), Attention(width, heads, latent)
        self.hidden_norm, self.hidden = nn.LayerNorm(width), feed_forward(width, ratio)
        self.drop = nn.Dropout(dropout)

    def rest(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """What follows the self-attention: x (b t d), the latent's keys and values (b h n e), mask (b n) → (b t d)."""
        x = x + self.drop(self.latent(self.latent_norm(x), keys, values, mask))
        return x + self.drop(self.hidden(self.hidden_norm(x)))

    def forward(self, x: Tensor, z: Latent, *, causal: bool = True) -> Tensor:
        """x (b t d) → (b t d), all places at once."""
        normed = self.own_norm(x)
        x = x + self.drop(self.own(normed, *self.own.keys_values(normed), causal=causal))
        return self.rest(x, *self.latent.keys_values(z.tokens), z.mask)


def feed_forward(width: int, ratio: float) -> nn.Sequential:
    """(… d) → (… d)."""
    hidden = max(1, int(width * ratio))
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


def positions(places: int, width: int) -> nn.Parameter:
    """(places d) learned positions of the size of the embeddings."""
    return nn.Parameter(torch.randn(places, width) * 0.5)


class GridPositions(nn.Module):
    """Learned positions of a grid, row by row: a row's vector and a column's, added (axial, Ho et al. 2019)."""

    def __init__(self, rows: int, columns: int, width: int) -> None:
        super().__init__()
        self.rows, self.columns = positions(rows, width), positions(columns, width)

    def forward(self) -> Tensor:
        """(rows·columns d)."""
        return (self.rows[:, None] + self.columns).flatten(0, 1)


def rotation(places: int, width: int) -> Tensor:
    """(2 places e/2) cosine and sine of i·10000^(−2j/e) for place i and pair j (Su et al. 2021, eq. 15). Raises `ValueError` for an odd e."""
    if width % 2:
        raise ValueError(f"heads: expected heads of an even width for rotary positions, not {width}")
    angles = torch.arange(places)[:, None] * 10000.0 ** (-torch.arange(0, width, 2) / width)
    return torch.stack([angles.cos(), angles.sin()])


def looking_back(mask: Tensor) -> Tensor:
    """mask (b s) → (b s s): each place sees itself and what is there before it."""
    places = torch.arange(mask.shape[1], device=mask.device)
    before, same = places[:, None] > places, places[:, None] == places
    return (before & mask[:, None]) | same
