"""The network that reads a noisy image, the time and the latent.

Shapes: b batch, c h w image or map, g places of the smallest map, d width, n latent places, m their width.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Attention, Latent, check_heads
from ibllm_flow.config import FlowConfig

#: Numbers that a time becomes, and the greatest frequency among them in radians a unit of time.
TIME_NUMBERS, FASTEST = 64, 200.0
#: Groups of the group norms.
GROUPS = 8


def waves(t: Tensor) -> Tensor:
    """t (b) → (b TIME_NUMBERS): cosines and sines of geometrically spaced frequencies (Vaswani et al. 2017, section 3.5)."""
    count = TIME_NUMBERS // 2
    frequencies = torch.exp(torch.linspace(0, math.log(FASTEST), count, device=t.device))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)


class FlowLayer(nn.Module):
    """Places see each other, then the latent; norms without weights of their own are scaled and shifted by the condition (Peebles and Xie 2023, adaLN)."""

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
        x = x + self.own(seen, *self.own.keys_values(seen))
        x = x + self.text(normed(x, 1), *self.text.keys_values(z.tokens), z.mask)
        out: Tensor = x + self.hidden(normed(x, 2))
        return out


class Residual(nn.Module):
    """A 3×3 and a 1×1 convolution beside a residual, the norm scaled and shifted by the condition (Dhariwal and Nichol 2021, adaptive group norm)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, affine=False)
        self.modulation = nn.Linear(width, 2 * channels)
        self.spread, self.mix = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (b c h w), condition (b d) → (b c h w)."""
        scale, shift = self.modulation(condition)[..., None, None].chunk(2, 1)
        seen = F.silu(self.norm(x) * (1 + scale) + shift)
        out: Tensor = x + self.mix(F.silu(self.spread(seen)))
        return out


class FlowNetwork(nn.Module):
    """A U-Net (Ronneberger et al. 2015) with a transformer at its smallest map; without convolutional stages, a transformer over patches."""

    def __init__(self, config: FlowConfig, width: int, latent: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        colours, height, wide = image_shape
        stride = config.stride
        if height % stride or wide % stride:
            what = f"patch = {config.patch} with {len(config.channels)} stages"
            raise ValueError(f"{what}: expected {stride} to divide the image's height {height} and width {wide}")
        check_heads(width, config.heads)
        self.grid = (height // stride, wide // stride)
        sizes = (*config.channels, width)
        self.enter = nn.Conv2d(colours, sizes[0], config.patch, stride=config.patch)
        self.leave = nn.ConvTranspose2d(sizes[0], colours, config.patch, stride=config.patch)
        self.before = nn.ModuleList(Residual(c, width) for c in config.channels)
        self.after = nn.ModuleList(Residual(c, width) for c in config.channels)
        self.down = nn.ModuleList(nn.Conv2d(c, after, 2, stride=2) for c, after in pairwise(sizes))
        self.up = nn.ModuleList(nn.ConvTranspose2d(after, c, 2, stride=2) for c, after in pairwise(sizes))
        self.positions = nn.Parameter(torch.randn(self.grid[0] * self.grid[1], width) * 0.5)
        self.time = nn.Sequential(nn.Linear(TIME_NUMBERS, width), nn.SiLU(), nn.Linear(width, width))
        self.pooled = nn.Linear(latent, width)
        self.layers = nn.ModuleList(FlowLayer(width, config.heads, config.ratio, latent) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, t: Tensor, z: Latent) -> Tensor:
        """x (b c h w), t (b) → (b c h w)."""
        condition = F.silu(self.time(waves(t)) + self.pooled(z.pooled))
        # Convolutions run faster on CPUs and GPUs alike with the channels last.
        maps = self.enter(x.contiguous(memory_format=torch.channels_last))
        kept: list[Tensor] = []
        for block, down in zip(self.before, self.down, strict=True):
            kept.append(block(maps, condition))
            maps = down(kept[-1])
        tokens = maps.flatten(2).transpose(1, 2) + self.positions
        for layer in self.layers:
            tokens = layer(tokens, condition, z)
        maps = self.norm(tokens).transpose(1, 2).reshape(len(x), -1, *self.grid)
        for block, up, skipped in reversed(list(zip(self.after, self.up, kept, strict=True))):
            maps = block(up(maps) + skipped, condition)
        out: Tensor = self.leave(maps)
        return out
