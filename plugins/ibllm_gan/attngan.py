"""AttnGAN's generator (Xu et al. 2018). Shapes: b batch, c h w image or map, n words, m latent width, g places of a map, k noise, e condition."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, Latent, Residual
from ibllm_gan.config import AttnGANGeneratorConfig
from ibllm_gan.generator import ConditionalGenerator, smallest_grid


def glu(x: Tensor) -> Tensor:
    """(b 2c h w) → (b c h w), gated linear units (Dauphin et al. 2017): half of the channels gate the others.

    Written out, because torch's own after a group norm with the channels last has a wrong gradient when compiled (torch 2.13, aot_eager).
    """
    signal, gate = x.chunk(2, 1)
    return signal * gate.sigmoid()


class GatedConv(nn.Module):
    """3×3 convolution, group norm, gated linear units."""

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(before, 2 * after, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(groups, 2 * after)

    def forward(self, x: Tensor) -> Tensor:
        """(b before h w) → (b after h w)."""
        return glu(self.norm(self.convolve(x)))


def residual_block(channels: int, groups: int) -> Residual:
    """(b c h w) → (b c h w): a gated and a plain 3×3 convolution."""
    gated, plain = GatedConv(channels, channels, groups), nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    body = nn.Sequential(gated, plain, nn.GroupNorm(groups, channels))
    return Residual(OrderedDict(body=body))


class WordAttention(nn.Module):
    """For every place a mixture of words: softmax over words of ⟨place, word⟩ (eq. 2), words brought to the map's channels (U in section 3.1).

    Inner products are divided by √c, which the paper does not do: words of unit size then begin as an even mixture at any width.
    """

    def __init__(self, latent: int, channels: int) -> None:
        super().__init__()
        self.words = nn.Linear(latent, channels, bias=False)

    def forward(self, x: Tensor, z: Latent) -> Tensor:
        """x (b c h w) → (b c h w)."""
        words = self.words(z.tokens)
        places = x.flatten(2).transpose(1, 2).to(words.dtype)
        read = F.scaled_dot_product_attention(places, words, words, attn_mask=z.mask[:, None, :])
        return read.transpose(1, 2).reshape(x.shape)


class AttentionStage(nn.Module):
    """F_i: attention to the words concatenated to the map, residual blocks, twofold upsampling."""

    def __init__(self, config: AttnGANGeneratorConfig, latent: int, after: int) -> None:
        super().__init__()
        channels = config.channels
        self.attend = WordAttention(latent, channels)
        self.refine = nn.Sequential(*(residual_block(2 * channels, config.groups) for _ in range(config.blocks)))
        self.grow = nn.Sequential(nn.Upsample(scale_factor=2), GatedConv(2 * channels, after, config.groups))

    def forward(self, x: Tensor, z: Latent) -> Tensor:
        """(b c h w) → (b after 2h 2w)."""
        out: Tensor = self.grow(self.refine(torch.cat([x, self.attend(x, z)], 1)))
        return out


class AttnGANGenerator(ConditionalGenerator):
    """h₀ = F₀(noise, condition), h_i = F_i(h_{i−1}, attention(words, h_{i−1})), image = G(h) (eq. 1).

    Only the last map is painted: the smaller images of the paper are there for critics of their own. The norms are over groups of
    channels of one image, not over the batch, so that an image's likelihood does not depend on the others.
    """

    checkpointed = ("coarse", "stages")

    def __init__(self, config: AttnGANGeneratorConfig, context: Context) -> None:
        super().__init__(config, context)
        times, *self.grid = smallest_grid(context.image_shape)
        if config.stages > times:
            raise ValueError(
                f"stages = {config.stages}: expected at most {times}, the doublings from {self.grid[0]}×{self.grid[1]} to the image"
            )
        first = times - config.stages
        # Each doubling before the words halves the channels, down to `channels`.
        sizes = [config.channels * min(2 ** (first - i), 8) for i in range(first + 1)]
        self.enter = nn.Linear(self.input_width, 2 * sizes[0] * self.grid[0] * self.grid[1], bias=False)
        self.enter_norm = nn.GroupNorm(config.groups, 2 * sizes[0])
        self.coarse = nn.Sequential(
            *(nn.Sequential(nn.Upsample(scale_factor=2), GatedConv(a, b, config.groups)) for a, b in pairwise(sizes))
        )
        afters = [config.channels] * (config.stages - 1) + [config.channels // 2]
        self.stages = nn.ModuleList(AttentionStage(config, config.latent or context.latent, after) for after in afters)
        self.paint = nn.Conv2d(afters[-1], context.image_shape[0], 3, padding=1)

    def draw(self, z: Latent, noise: Tensor) -> Tensor:
        _, condition = self.condition(z, noise)
        x = self.enter(condition).unflatten(1, (-1, *self.grid)).contiguous(memory_format=torch.channels_last)
        x = self.coarse(glu(self.enter_norm(x)))
        for stage in self.stages:
            x = stage(x, z)
        drawn: Tensor = self.into_range(self.paint(x))
        return drawn
