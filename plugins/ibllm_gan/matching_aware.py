"""C whose places attend to the text. Shapes: b batch, c h w image or map, n latent places, g places of the last map, d width."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, Latent, position_embedding
from ibllm_gan.config import MatchingAwareCriticConfig
from ibllm_gan.critic import SLOPE, TrunkCritic, strided_stages


class MatchingAwareCritic(TrunkCritic):
    """Each place of the last map reads the text and is scored; the image's score is the mean.

    Attention is written out, because fused attention has no double backward on CPUs.
    """

    def __init__(self, config: MatchingAwareCriticConfig, context: Context) -> None:
        super().__init__()
        latent, width = config.latent or context.latent, config.width
        self.stages, (channels, height, wide) = strided_stages(config.channels, context.image_shape)
        self.places = nn.Linear(channels, width)
        self.positions = position_embedding(height * wide, width)
        self.query, self.memory = nn.Linear(width, width), nn.Linear(latent, 2 * width)
        self.join = nn.Linear(2 * width, width)
        self.score = nn.Linear(width, 1)
        self.complete(config, channels)

    def judge(self, seen: Tensor, z: Latent) -> Tensor:
        places = F.leaky_relu(self.places(seen.flatten(2).transpose(1, 2)), SLOPE)
        key, value = self.memory(z.tokens).chunk(2, -1)
        match = self.query(places + self.positions) @ key.transpose(1, 2) / math.sqrt(key.shape[-1])
        read = match.masked_fill(~z.mask[:, None, :], float("-inf")).softmax(-1) @ value
        joined = F.leaky_relu(self.join(torch.cat([places, read], -1)), SLOPE)
        scores: Tensor = self.score(joined).mean((1, 2))
        return scores
