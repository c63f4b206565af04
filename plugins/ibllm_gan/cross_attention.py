"""D_y as a one-shot conditional generator.

Shapes: b batch, c h w image, n latent places, m their width, g patches, p pixels a patch's side, d width, k noise.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Attention, Context, FeedForward, Latent, attention_bias
from ibllm_gan.config import CrossAttentionGeneratorConfig
from ibllm_gan.generator import OneShotDecoder


class CrossAttentionLayer(nn.Module):
    """Cross-attention from the patches to the latent and a feed-forward layer. Patches do not attend to each other: what binds them is the text."""

    def __init__(self, width: int, heads: int, ratio: float, latent: int) -> None:
        super().__init__()
        self.attention_norm, self.hidden_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, latent)
        self.hidden = FeedForward(width, ratio)

    def forward(self, x: Tensor, z: Tensor, mask: Tensor) -> Tensor:
        """x (b g d), the latent's places (b n m), their mask (b n) or its bias → (b g d)."""
        x = x + self.attention(self.attention_norm(x), *self.attention.keys_values(z), mask)
        out: Tensor = x + self.hidden(self.hidden_norm(x))
        return out


class PatchStream(nn.Module):
    """Learned queries, one a patch, that read the text in every layer."""

    def __init__(self, places: int, width: int, config: CrossAttentionGeneratorConfig, latent: int) -> None:
        super().__init__()
        self.noise_scale = config.noise_scale
        # Unit size: queries that start small are alike, and then every patch learns the same mean image first.
        self.queries = nn.Parameter(torch.randn(places, width))
        self.enter = nn.Linear(config.noise, width, bias=False) if config.noise else None
        self.layers = nn.ModuleList(CrossAttentionLayer(width, config.heads, config.ratio, latent) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, z: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
        """The latent's places (b n m), their mask (b n) or its bias, noise (b k) → (b g d)."""
        x = self.queries.expand(len(z), -1, -1)
        if self.enter is not None:
            x = x + self.noise_scale * self.enter(noise).unsqueeze(1)
        for layer in self.layers:
            x = layer(x, z, mask)
        out: Tensor = self.norm(x)
        return out


class CrossAttentionGenerator(OneShotDecoder):
    """Draws all patches at once: one stream says which colours a patch has, the other where in the patch each of them is.

    What is where and in which colour meet only in the last, linear, step, so a shape and a colour never seen together can still be drawn
    together. A patch is a soft mixture of its own few colours, as in images with a palette.
    """

    checkpointed = ("form.layers", "shade.layers")

    def __init__(self, config: CrossAttentionGeneratorConfig, context: Context) -> None:
        super().__init__(config, context)
        self.config = config
        width, latent = config.width or context.width, config.latent or context.latent
        self.colours, height, wide = context.image_shape
        if height % config.patch or wide % config.patch:
            raise ValueError(f"patch = {config.patch}: expected a divisor of the image's height {height} and width {wide}")
        self.rows, columns = height // config.patch, wide // config.patch
        #: The stream of forms, and the one of colours.
        self.form = PatchStream(self.rows * columns, width, config, latent)
        self.shade = PatchStream(self.rows * columns, config.shade_width or width, config, latent)
        self.patches = nn.Linear(width, config.channels * config.patch**2)
        self.joins = nn.ModuleList(nn.Conv2d(config.channels, config.channels, 3, padding=1) for _ in range(config.joins))
        self.mixture = nn.Conv2d(config.channels, config.palette, 3, padding=1)
        self.palette = nn.Linear(config.shade_width or width, config.palette * self.colours)

    def draw(self, z: Latent, noise: Tensor) -> Tensor:
        p = self.config.patch
        mask = attention_bias(z.mask, z.tokens)
        x = self.patches(self.form(z.tokens, mask, noise)).unflatten(1, (self.rows, -1)).unflatten(-1, (p, p, -1))
        # (b rows columns p p c) → (b c h w), the channels last in memory, where convolutions are fastest.
        x = x.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
        for join in self.joins:
            x = x + F.gelu(join(F.gelu(x)))
        parts = self.mixture(F.gelu(x)).softmax(1)
        palette = self.into_range(self.palette(self.shade(z.tokens, mask, noise)))
        palette = palette.unflatten(-1, (-1, self.colours)).unflatten(1, (self.rows, -1))
        mixed = torch.einsum("bkrpqs,brqkc->bcrpqs", parts.unflatten(3, (-1, p)).unflatten(2, (-1, p)), palette)
        return mixed.flatten(4, 5).flatten(2, 3)
