"""The network that reads a noisy image, the time and the latent.

Shapes: b batch, c h w image, g patches, d width, n latent places, m their width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm_core.interfaces.latent import Latent
from ibllm_flow.config import FlowConfig

#: Numbers that a time becomes, and the greatest frequency among them in radians a unit of time.
TIME_NUMBERS, FASTEST = 64, 200.0


def waves(t: Tensor) -> Tensor:
    """t (b) → (b TIME_NUMBERS): cosines and sines of geometrically spaced frequencies (Vaswani et al. 2017, section 3.5)."""
    count = TIME_NUMBERS // 2
    frequencies = torch.exp(torch.linspace(0, math.log(FASTEST), count, device=t.device))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int, memory: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.memory, self.out = nn.Linear(width, width), nn.Linear(memory, 2 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (b g d) asks memory (b n m), of which mask (b n) is there → (b g d)."""
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.memory(memory).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=None if mask is None else mask[:, None, None, :])
        out: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return out


class FlowLayer(nn.Module):
    """Patches see each other, then the latent; norms without weights of their own are scaled and shifted by the condition (Peebles and Xie 2023, adaLN)."""

    def __init__(self, width: int, heads: int, ratio: float, latent: int) -> None:
        super().__init__()
        hidden = max(1, int(width * ratio))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 6 * width)
        self.own, self.text = Attention(width, heads, width), Attention(width, heads, latent)
        self.hidden = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, condition: Tensor, z: Latent) -> Tensor:
        """x (b g d), condition (b d) → (b g d)."""
        scales, shifts = self.modulation(condition).unflatten(-1, (2, 3, 1, -1)).unbind(1)

        def normed(x: Tensor, number: int) -> Tensor:
            out: Tensor = self.norm(x) * (1 + scales[:, number]) + shifts[:, number]
            return out

        seen = normed(x, 0)
        x = x + self.own(seen, seen)
        x = x + self.text(normed(x, 1), z.tokens, z.mask)
        out: Tensor = x + self.hidden(normed(x, 2))
        return out


class FlowNetwork(nn.Module):
    """A transformer over the patches of a noisy image."""

    def __init__(self, config: FlowConfig, width: int, latent: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        colours, height, wide = image_shape
        self.patch, p = config.patch, config.patch
        if height % p or wide % p:
            raise ValueError(f"patch = {p}: expected a divisor of the image's height {height} and width {wide}")
        if width % config.heads:
            raise ValueError(f"heads = {config.heads}: expected a divisor of width = {width}")
        self.rows = height // p
        self.enter = nn.Linear(colours * p * p, width)
        self.positions = nn.Parameter(torch.randn(self.rows * (wide // p), width) * 0.5)
        self.time = nn.Sequential(nn.Linear(TIME_NUMBERS, width), nn.SiLU(), nn.Linear(width, width))
        self.pooled = nn.Linear(latent, width)
        self.layers = nn.ModuleList(FlowLayer(width, config.heads, config.ratio, latent) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, colours * p * p)

    def forward(self, x: Tensor, t: Tensor, z: Latent) -> Tensor:
        """x (b c h w), t (b) → (b c h w)."""
        p = self.patch
        tokens = self.enter(F.pixel_unshuffle(x, p).flatten(2).transpose(1, 2)) + self.positions
        condition = F.silu(self.time(waves(t)) + self.pooled(z.pooled))
        for layer in self.layers:
            tokens = layer(tokens, condition, z)
        out = self.leave(self.norm(tokens)).transpose(1, 2).unflatten(2, (self.rows, -1))
        return F.pixel_shuffle(out, p)
