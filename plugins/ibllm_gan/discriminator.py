"""C as a conditional convolutional critic. Shapes: b batch, c h w image or map, n latent places, g places of the last map, d width."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.discriminator import Discriminator
from ibllm_core.interfaces.latent import Latent
from ibllm_gan.config import MatchingAwareCriticConfig


class MatchingAwareCritic(Discriminator):
    """Each place of the last map reads the text and is scored; the image's score is the mean.

    Only operations that can be differentiated twice on every device: attention is written out, because fused attention has no double
    backward on CPUs. No norm over the batch, so that a penalty on one image's gradient means what it says.
    """

    def __init__(self, config: MatchingAwareCriticConfig, context: Context) -> None:
        super().__init__()
        latent, width = config.latent or context.latent, config.width
        before, height, wide = context.image_shape
        stages: list[nn.Module] = []
        for channels in config.channels:
            stages += [nn.Conv2d(before, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            before, height, wide = channels, height // 2, wide // 2
        self.stages = nn.Sequential(*stages)
        self.places = nn.Linear(before, width)
        self.positions = nn.Parameter(torch.randn(height * wide, width) * 0.5)
        self.query, self.memory = nn.Linear(width, width), nn.Linear(latent, 2 * width)
        self.join = nn.Linear(2 * width, width)
        self.score = nn.Linear(width, 1)

    def forward(self, y: Tensor, z: Latent) -> Tensor:
        features = self.stages(y.contiguous(memory_format=torch.channels_last)).flatten(2).transpose(1, 2)
        places = F.leaky_relu(self.places(features), 0.2)
        key, value = self.memory(z.tokens).chunk(2, -1)
        match = self.query(places + self.positions) @ key.transpose(1, 2) / math.sqrt(key.shape[-1])
        read = match.masked_fill(~z.mask[:, None, :], float("-inf")).softmax(-1) @ value
        joined = F.leaky_relu(self.join(torch.cat([places, read], -1)), 0.2)
        scores: Tensor = self.score(joined).mean((1, 2))
        return scores
