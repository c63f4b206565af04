"""What makes an image's latent the embeddings of a language model. Shapes: b batch, n latent places, d latent width, m places given, e width of the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibllm.plugin import Attention, FeedForward, Latent, check_heads
from ibllm_pretrained.config import PretrainedTextDecoderConfig


class Projector(nn.Module):
    """A layer for each place alone: linear (Liu et al. 2023, section 4.1), or two with a GELU between (Liu et al. 2024, section 3.3)."""

    def __init__(self, latent: int, width: int, layers: int) -> None:
        super().__init__()
        self.first = nn.Linear(latent, width)
        self.second = nn.Linear(width, width) if layers > 1 else None

    def forward(self, z: Latent) -> tuple[Tensor, Tensor]:
        """latent → embeddings (b n e), mask (b n)."""
        x: Tensor = self.first(z.tokens)
        return (x if self.second is None else self.second(nn.functional.gelu(x))), z.mask


class PerceiverLayer(nn.Module):
    """Queries look at the image's places and at one another, then at themselves alone (Alayrac et al. 2022, figure 5)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.look, self.norm = Attention(width, heads), nn.LayerNorm(width)
        self.think = nn.Sequential(nn.LayerNorm(width), FeedForward(width, 4.0))

    def forward(self, x: Tensor, places: Tensor, mask: Tensor) -> Tensor:
        """queries (b m e), places (b n e), mask (b n + m) → (b m e)."""
        queries = self.norm(x)
        x = x + self.look(queries, *self.look.keys_values(torch.cat([places, queries], 1)), mask)
        thought: Tensor = x + self.think(x)
        return thought


class Perceiver(nn.Module):
    """As many places as there are queries, whatever the image has: a perceiver resampler (Alayrac et al. 2022, section 3.1)."""

    def __init__(self, latent: int, width: int, queries: int, depth: int, heads: int) -> None:
        super().__init__()
        check_heads(width, heads)
        self.queries = nn.Parameter(0.02 * torch.randn(queries, width))
        self.project, self.norm = nn.Linear(latent, width), nn.LayerNorm(width)
        self.layers = nn.ModuleList(PerceiverLayer(width, heads) for _ in range(depth))
        self.last = nn.LayerNorm(width)

    def forward(self, z: Latent) -> tuple[Tensor, Tensor]:
        """latent → embeddings (b m e), mask (b m), all of them there."""
        places, x = self.norm(self.project(z.tokens)), self.queries.expand(len(z), -1, -1)
        own = z.mask.new_ones(len(z), x.shape[1])
        seen = torch.cat([z.mask, own], 1)
        for layer in self.layers:
            x = layer(x, places, seen)
        return self.last(x), own


def build(config: PretrainedTextDecoderConfig, latent: int, width: int) -> nn.Module:
    """The projector that the options ask for."""
    if config.projector == "perceiver":
        return Perceiver(latent, width, config.queries, config.depth, config.heads)
    return Projector(latent, width, 1 if config.projector == "linear" else 2)
