"""What has a place in the image, and how places are compared.

Shapes: b batch, t tokens of the text, n places, m width of the latent, d width of a place's content, g points of a grid.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ibllm.plugin import Attention, FeedForward, Latent, Rng, attention_bias

#: Coordinates from one edge of the image to the other, in standard deviations of the noise that they are drawn from: −2 … 2.
EXTENT = 2.0
#: A displacement is described by itself, by waves of these numbers of half turns a half image, and by bells of these widths in half images.
HALF_TURNS, BELLS = (0.5, 1.0, 2.0, 4.0), (0.15, 0.3, 0.6)
#: How many numbers that are.
FEATURES = 2 + 4 * len(HALF_TURNS) + 1 + len(BELLS)


def grid_points(rows: int, columns: int) -> Tensor:
    """(g 2) x and y of the centres of a grid's cells, row by row, in [−EXTENT, EXTENT]."""
    x, y = ((torch.arange(number) + 0.5) / number * 2 - 1 for number in (columns, rows))
    return EXTENT * torch.stack([x.expand(rows, columns), y[:, None].expand(rows, columns)], -1).flatten(0, 1)


def displacement_features(displacement: Tensor) -> Tensor:
    """(… 2) → (… FEATURES): numbers that a linear layer can make a bump at any displacement of (Fourier features, Tancik et al. 2020)."""
    r = displacement / EXTENT
    angles = torch.cat([r * (math.pi * f) for f in HALF_TURNS], -1)
    far = r.square().sum(-1, keepdim=True)
    bells = torch.cat([(-far / (2 * width**2)).exp() for width in BELLS], -1)
    return torch.cat([r, angles.sin(), angles.cos(), far.clamp(max=4.0), bells], -1)


def normal_by_place(rng: Rng, places: int, numbers: int) -> Tensor:
    """(b n k) standard normal; a place's numbers do not depend on how many places follow it, which padding decides."""
    u = rng.uniform(places, 2, numbers)
    return (-2.0 * (-u[:, :, 0]).log1p()).sqrt() * (2.0 * math.pi * u[:, :, 1]).cos()


class ReadingLayer(nn.Module):
    """Self-attention among places, cross-attention to the text where it is read, and a feed-forward layer, each behind a norm."""

    def __init__(self, width: int, heads: int, ratio: float, latent: int | None) -> None:
        super().__init__()
        self.own_norm, self.own = nn.LayerNorm(width), Attention(width, heads)
        self.text_norm = nn.LayerNorm(width) if latent else None
        self.text = Attention(width, heads, latent) if latent else None
        self.hidden_norm, self.hidden = nn.LayerNorm(width), FeedForward(width, ratio)

    def forward(self, x: Tensor, own_mask: Tensor | None, z: Latent, text_mask: Tensor) -> Tensor:
        """x (b n d), the masks' biases, the latent (b t m) → (b n d)."""
        normed = self.own_norm(x)
        x = x + self.own(normed, *self.own.keys_values(normed), own_mask)
        if self.text is not None and self.text_norm is not None:
            x = x + self.text(self.text_norm(x), *self.text.keys_values(z.tokens), text_mask)
        out: Tensor = x + self.hidden(self.hidden_norm(x))
        return out


class Slots(nn.Module):
    """Learned queries that read the text, as object queries read an image (Carion et al. 2020)."""

    def __init__(self, number: int, depth: int, heads: int, ratio: float, latent: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(number, latent))
        self.layers = nn.ModuleList(ReadingLayer(latent, heads, ratio, latent) for _ in range(depth))
        self.norm = nn.LayerNorm(latent)

    def forward(self, z: Latent) -> Latent:
        """latent (b t m) → its content in slots (b n m), all of them there."""
        x, mask = self.queries.expand(len(z), -1, -1), attention_bias(z.mask, z.tokens)
        for layer in self.layers:
            x = layer(x, None, z, mask)
        return Latent(self.norm(x), torch.ones_like(x[..., 0], dtype=torch.bool), z.pooled)
