"""q(u | y, x): where the places lie, read off the image.

Shapes: b batch, c h w image, n places, d width of a place's content, k numbers of a place, g points of the map, e width of the map.
"""

from __future__ import annotations

import math
from itertools import pairwise

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, Latent, into_range
from ibllm_vae.config import FlowVAEConfig
from ibllm_vae.places import EXTENT, grid_points

#: Width in which places and points are compared, and of what tells a place's colour.
KEY_WIDTH = 64
#: log σ² at the start, and its upper bound.
LOG_VARIANCE, GREATEST_LOG_VARIANCE = -5.0, 2.0


@attrs.define(eq=False, slots=False)
class Seen:
    """What the posterior makes of an image.

    Attributes:
        mean, log_variance: (b n k).
        coarse: (b c rows columns) the image as the attention explains it: each point has the colour of the places that look there, or the ground's.
    """

    mean: Tensor
    log_variance: Tensor
    coarse: Tensor


class Posterior(nn.Module):
    """Every place looks at the points of a map of the image, and places compete for points (slot attention, Locatello et al. 2020); where a place looks, and
    a correction by what it sees there, are the mean of its coordinates."""

    def __init__(self, config: FlowVAEConfig, context: Context) -> None:
        super().__init__()
        colours, height, width = context.image_shape
        self.stride = 2 ** len(config.posterior_channels)
        if height % self.stride or width % self.stride:
            what = f"posterior_channels of {len(config.posterior_channels)} stages"
            raise ValueError(f"{what}: expected {self.stride} to divide the image's height {height} and width {width}")
        self.grid = (height // self.stride, width // self.stride)
        latent, wide, self.numbers = config.latent or context.latent, config.width or context.width, 2 + config.extra
        layers: list[nn.Module] = []
        for before, after in pairwise((colours, *config.posterior_channels)):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.GELU()]
        self.look = nn.Sequential(*layers, nn.Conv2d(config.posterior_channels[-1], wide, 3, padding=1))
        self.map_norm, self.place_norm = nn.LayerNorm(wide), nn.LayerNorm(latent)
        self.query, self.key = nn.Linear(latent, KEY_WIDTH), nn.Linear(wide, KEY_WIDTH)
        self.value, self.content = nn.Linear(wide, wide), nn.Linear(latent, wide)
        self.least = 2 * math.log(2 * EXTENT * config.least_deviation)
        last = nn.Linear(wide, 2 * self.numbers)
        self.out = nn.Sequential(nn.LayerNorm(wide), nn.Linear(wide, wide), nn.GELU(), last)
        self.colour = nn.Sequential(nn.Linear(latent, KEY_WIDTH), nn.GELU(), nn.Linear(KEY_WIDTH, colours))
        self.ground, self.unclaimed = nn.Parameter(torch.full((colours,), -1.0)), nn.Parameter(torch.zeros(()))
        self.into_range = into_range(context.bounded)
        self.points: Tensor
        self.register_buffer("points", grid_points(*self.grid), persistent=False)
        with torch.no_grad():
            # The correction begins small, so that the mean begins where the place looks.
            last.weight.mul_(0.1)
            last.bias.zero_()

    def forward(self, y: Tensor, c: Latent) -> Seen:
        """y (b c h w), the places' content (b n d) → the distribution of what they leave open."""
        # Convolutions run faster on CPUs and GPUs alike with the channels last.
        m = self.map_norm(self.look(y.contiguous(memory_format=torch.channels_last)).flatten(2).transpose(1, 2))  # b g e
        scores = self.query(self.place_norm(c.tokens)) @ self.key(m).transpose(1, 2) / KEY_WIDTH**0.5  # b n g
        scores = scores.float().masked_fill(~c.mask[..., None], -1e4)
        claims = torch.cat([scores, self.unclaimed.expand(len(c), 1, m.shape[1])], 1).log_softmax(1)  # b n+1 g
        colours = self.into_range(torch.cat([self.colour(c.tokens), self.ground.expand(len(c), 1, -1)], 1))
        coarse: Tensor = torch.einsum("bng,bnc->bcg", claims.exp(), colours.float())
        looks = claims[:, :-1].softmax(-1)  # b n g
        seen = looks.to(m) @ self.value(m) + self.content(c.tokens)
        correction, log_variance = self.out(seen).float().chunk(2, -1)
        at = F.pad(looks @ self.points, (0, self.numbers - 2))
        # A soft lower bound: a place that has come down to a hard one could not leave it again.
        log_variance = (self.least + F.softplus(log_variance + LOG_VARIANCE - self.least)).clamp(max=GREATEST_LOG_VARIANCE)
        return Seen(at + correction, log_variance, coarse.view(*coarse.shape[:2], *self.grid))
