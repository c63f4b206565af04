"""The network that reads a noisy image, the time and the latent.

Shapes: b batch, c h w image or map, g places of the smallest map, d width, n latent places, m their width.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import (
    TIMESTEP_WIDTH,
    Attention,
    FeedForward,
    Latent,
    attention_bias,
    check_heads,
    position_embedding,
    timestep_embedding,
)
from ibllm_flow.config import FlowConfig

#: Groups of the group norms.
GROUPS = 8


class FlowLayer(nn.Module):
    """Self-attention, cross-attention to the latent and a feed-forward layer behind adaptive layer norms: the condition gives scale and shift (Peebles and
    Xie 2023, adaLN)."""

    def __init__(self, width: int, heads: int, ratio: float, latent: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 6 * width)
        self.own, self.text = Attention(width, heads, width), Attention(width, heads, latent)
        self.hidden = FeedForward(width, ratio)

    def forward(self, x: Tensor, condition: Tensor, z: Tensor, mask: Tensor) -> Tensor:
        """x (b g d), condition (b d), the latent's places (b n m), their mask (b n) or its bias → (b g d)."""
        scales, shifts = self.modulation(condition).unflatten(-1, (2, 3, 1, -1)).unbind(1)
        scales, shifts = (1 + scales).unbind(1), shifts.unbind(1)
        own = self.norm(x) * scales[0] + shifts[0]
        x = x + self.own(own, *self.own.keys_values(own))
        x = x + self.text(self.norm(x) * scales[1] + shifts[1], *self.text.keys_values(z), mask)
        out: Tensor = x + self.hidden(self.norm(x) * scales[2] + shifts[2])
        return out


class AdaptiveResidual(nn.Module):
    """A residual block of a 3×3 and a 1×1 convolution behind an adaptive group norm: the condition gives scale and shift (Dhariwal and Nichol 2021)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, affine=False)
        self.modulation = nn.Linear(width, 2 * channels)
        self.spread, self.mix = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (b c h w), condition (b d) → (b c h w)."""
        scale, shift = self.modulation(condition)[..., None, None].chunk(2, 1)
        h = F.silu(self.norm(x) * (1 + scale) + shift)
        out: Tensor = x + self.mix(F.silu(self.spread(h)))
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
        self.before = nn.ModuleList(AdaptiveResidual(c, width) for c in config.channels)
        self.after = nn.ModuleList(AdaptiveResidual(c, width) for c in config.channels)
        self.down = nn.ModuleList(nn.Conv2d(c, after, 2, stride=2) for c, after in pairwise(sizes))
        self.up = nn.ModuleList(nn.ConvTranspose2d(after, c, 2, stride=2) for c, after in pairwise(sizes))
        self.positions = position_embedding(self.grid[0] * self.grid[1], width)
        self.time = nn.Sequential(nn.Linear(TIMESTEP_WIDTH, width), nn.SiLU(), nn.Linear(width, width))
        self.pooled = nn.Linear(latent, width)
        self.layers = nn.ModuleList(FlowLayer(width, config.heads, config.ratio, latent) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, t: Tensor, z: Latent) -> Tensor:
        """x (b c h w), t (b) → (b c h w)."""
        condition = F.silu(self.time(timestep_embedding(t)) + self.pooled(z.pooled))
        # Convolutions run faster on CPUs and GPUs alike with the channels last.
        maps = self.enter(x.contiguous(memory_format=torch.channels_last))
        skips: list[Tensor] = []
        for block, down in zip(self.before, self.down, strict=True):
            skips.append(block(maps, condition))
            maps = down(skips[-1])
        tokens = maps.flatten(2).transpose(1, 2) + self.positions
        mask = attention_bias(z.mask, tokens)
        for layer in self.layers:
            tokens = layer(tokens, condition, z.tokens, mask)
        maps = self.norm(tokens).transpose(1, 2).reshape(len(x), -1, *self.grid)
        for block, up, skip in reversed(list(zip(self.after, self.up, skips, strict=True))):
            maps = block(up(maps) + skip, condition)
        out: Tensor = self.leave(maps)
        return out
