"""The pass that draws an image of places and what is in them.

Shapes: b batch, c h w image, n places, m width of a place's content, g patches, p pixels a patch's side, d width, a heads, f features of a displacement.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, FeedForward, Latent, check_heads, into_range
from ibllm_vae.config import FlowVAEConfig
from ibllm_vae.places import FEATURES, displacement_features, grid_points


class RelativeAttention(nn.Module):
    """Cross-attention from patches to places whose scores also follow how far a place is off (a relative position bias, Shaw et al. 2018, continuous).

    Where `seen`, what is attended to comes with its displacement, so that a patch knows which side of a thing it shows.
    """

    def __init__(self, width: int, heads: int, ratio: float, latent: int, seen: bool) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads, self.seen = heads, seen
        self.query, self.memory, self.bias = nn.Linear(width, width), nn.Linear(latent, 2 * width), nn.Linear(FEATURES, heads, bias=False)
        self.out = nn.Linear(width + (heads * FEATURES if seen else 0), width)
        self.norm, self.hidden_norm, self.hidden = nn.LayerNorm(width), nn.LayerNorm(width), FeedForward(width, ratio)

    def forward(self, x: Tensor, content: Tensor, mask: Tensor, features: Tensor) -> Tensor:
        """x (b g d), the places' content (b n m) and mask (b n), features (b g n f) → (b g d)."""
        query = self.query(self.norm(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.memory(content).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + self.bias(features).permute(0, 3, 1, 2)  # b a g n
        weights = scores.float().masked_fill(~mask[:, None, None], -1e4).softmax(-1).to(value)
        read = (weights @ value).transpose(1, 2).flatten(2)
        if self.seen:
            read = torch.cat([read, torch.einsum("bagn,bgnf->bgaf", weights, features.to(value)).flatten(2)], -1)
        x = x + self.out(read)
        out: Tensor = x + self.hidden(self.hidden_norm(x))
        return out


class PatchStream(nn.Module):
    """Learned queries, one a patch, that read the places in every layer."""

    def __init__(self, patches: int, width: int, config: FlowVAEConfig, latent: int, seen: bool) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(patches, width))
        self.layers = nn.ModuleList(RelativeAttention(width, config.heads, config.ratio, latent, seen) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, content: Tensor, mask: Tensor, features: Tensor) -> Tensor:
        """(b n m), (b n), (b g n f) → (b g d)."""
        x = self.queries.expand(len(content), -1, -1)
        for layer in self.layers:
            x = layer(x, content, mask, features)
        out: Tensor = self.norm(x)
        return out


class PlacedDrawing(nn.Module):
    """Draws all patches at once: one stream says which colours a patch has, the other where in the patch each of them is.

    They meet only in the last, linear, step, as in `cross_attention`; here both see how far each place is from each patch.
    """

    def __init__(self, config: FlowVAEConfig, context: Context) -> None:
        super().__init__()
        self.colours, height, wide = context.image_shape
        width, latent, self.patch = config.width or context.width, config.latent or context.latent, config.patch
        shade = config.shade_width or width
        if height % config.patch or wide % config.patch:
            raise ValueError(f"patch = {config.patch}: expected a divisor of the image's height {height} and width {wide}")
        self.rows, columns = height // config.patch, wide // config.patch
        self.form = PatchStream(self.rows * columns, width, config, latent, True)
        self.shade = PatchStream(self.rows * columns, shade, config, latent, False)
        self.patches = nn.Linear(width, config.channels * config.patch**2)
        self.joins = nn.ModuleList(nn.Conv2d(config.channels, config.channels, 3, padding=1) for _ in range(config.joins))
        self.mixture = nn.Conv2d(config.channels, config.palette, 3, padding=1)
        self.palette, self.into_range = nn.Linear(shade, config.palette * self.colours), into_range(context.bounded)
        self.points: Tensor
        self.register_buffer("points", grid_points(self.rows, columns), persistent=False)

    def forward(self, c: Latent, at: Tensor) -> Tensor:
        """The places' content (b n m), their coordinates (b n 2) → (b c h w)."""
        p, features = self.patch, displacement_features(self.points[None, :, None] - at[:, None])
        x = self.patches(self.form(c.tokens, c.mask, features)).unflatten(1, (self.rows, -1)).unflatten(-1, (p, p, -1))
        # (b rows columns p p channels) → (b channels h w), the channels last in memory, where convolutions are fastest.
        x = x.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
        for join in self.joins:
            x = x + F.gelu(join(F.gelu(x)))
        parts = self.mixture(F.gelu(x)).softmax(1)
        palette = self.into_range(self.palette(self.shade(c.tokens, c.mask, features)))
        palette = palette.unflatten(-1, (-1, self.colours)).unflatten(1, (self.rows, -1))
        mixed = torch.einsum("bkrpqs,brqkc->bcrpqs", parts.unflatten(3, (-1, p)).unflatten(2, (-1, p)), palette)
        return mixed.flatten(4, 5).flatten(2, 3)
