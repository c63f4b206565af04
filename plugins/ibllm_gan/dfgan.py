"""DF-GAN (Tao et al. 2022): generator and critic. Shapes: b batch, c h w image or map, m latent width, k noise, e text condition."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, Latent
from ibllm_gan.config import DFGANCriticConfig, DFGANGeneratorConfig
from ibllm_gan.critic import SLOPE, TrunkCritic, concatenate_vector
from ibllm_gan.generator import ConditionalGenerator, channels_by_size, smallest_grid


class Affine(nn.Module):
    """γ(c) ⊙ x + β(c), γ and β with one hidden layer each (eq. 3 and 4), then a leaky ReLU. γ starts near 1 and β near 0."""

    def __init__(self, width: int, hidden: int, channels: int) -> None:
        super().__init__()
        # γ's and β's hidden layers as one: one matrix product in place of two.
        self.hidden = nn.Linear(width, 2 * hidden)
        self.scale, self.shift = nn.Linear(hidden, channels), nn.Linear(hidden, channels)
        nn.init.ones_(self.scale.bias)
        nn.init.zeros_(self.shift.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (b c h w), given (b k+e) → (b c h w)."""
        scale, shift = F.relu(self.hidden(condition)).chunk(2, -1)
        return F.leaky_relu(self.scale(scale)[:, :, None, None] * x + self.shift(shift)[:, :, None, None], SLOPE)


class FusionBlock(nn.Module):
    """Upsamples a map twofold, then a residual block: two affine modulations by the text before each of two 3×3 convolutions (figure 4)."""

    def __init__(self, width: int, hidden: int, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.ModuleList(Affine(width, hidden, before) for _ in range(2))
        self.second = nn.ModuleList(Affine(width, hidden, after) for _ in range(2))
        self.convolve = nn.ModuleList((nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)))
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (b before h w), given (b k+e) → (b after 2h 2w)."""
        x = h = F.interpolate(x, scale_factor=2.0)
        for affines, convolve in zip((self.first, self.second), self.convolve, strict=True):
            for affine in affines:
                h = affine(h, condition)
            h = convolve(h)
        out: Tensor = self.shortcut(x) + h
        return out


class DFGANGenerator(ConditionalGenerator):
    """Noise → a small map → fusion blocks up to the image's size → image (section 3.1). The blocks read noise and text, concatenated."""

    checkpointed = ("blocks",)

    def __init__(self, config: DFGANGeneratorConfig, context: Context) -> None:
        super().__init__(config, context)
        times, *self.grid = smallest_grid(context.image_shape)
        sizes = channels_by_size(config.channels, times)[::-1]
        places = sizes[0] * self.grid[0] * self.grid[1]
        # A learned first map of unit size, to which the noise's is added: where noise is small or absent there is still something to modulate.
        self.start = nn.Parameter(torch.randn(places))
        self.enter = nn.Linear(config.noise, places, bias=False) if config.noise else None
        self.blocks = nn.ModuleList(FusionBlock(self.input_width, config.hidden, a, b) for a, b in pairwise(sizes))
        self.paint = nn.Conv2d(sizes[-1], context.image_shape[0], 3, padding=1)

    def draw(self, z: Latent, noise: Tensor) -> Tensor:
        noise, condition = self.condition(z, noise)
        start = self.start.expand(len(z), -1) if self.enter is None else self.start + self.enter(noise)
        x = start.unflatten(1, (-1, *self.grid)).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x = block(x, condition)
        drawn: Tensor = self.into_range(self.paint(F.leaky_relu(x, SLOPE)))
        return drawn


class DownBlock(nn.Module):
    """Downsamples a map twofold: x ↦ pooled x + gain · convolutions of x, a gain that is learned from 0 (the code of Tao et al. 2022)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.convolve = nn.Sequential(
            nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.LeakyReLU(SLOPE),
        )
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(b before h w) → (b after h/2 w/2)."""
        out: Tensor = F.avg_pool2d(self.shortcut(x), 2) + self.gain * self.convolve(x)
        return out


class DFGANCritic(TrunkCritic):
    """One-way output (section 3.3): the image is never scored without its text. Made for the matching-aware gradient penalty."""

    def __init__(self, config: DFGANCriticConfig, context: Context) -> None:
        super().__init__()
        times, height, width = smallest_grid(context.image_shape)
        sizes = channels_by_size(config.channels, times)
        self.stages = nn.ModuleList([nn.Conv2d(context.image_shape[0], sizes[0], 3, padding=1)])
        self.stages.extend(DownBlock(a, b) for a, b in pairwise(sizes))
        joined = sizes[-1] + (config.latent or context.latent)
        self.join = nn.Conv2d(joined, 2 * config.channels, 3, padding=1, bias=False)
        self.last = nn.Conv2d(2 * config.channels, 1, (height, width), bias=False)
        self.complete(config, sizes[-1])

    def judge(self, seen: Tensor, z: Latent) -> Tensor:
        scores: Tensor = self.last(F.leaky_relu(self.join(concatenate_vector(seen, z.pooled)), SLOPE))
        return scores.flatten()
