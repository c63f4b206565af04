"""R3GAN's critic (Huang et al. 2024), conditioned on text. Shapes: b batch, c h w image or map, m latent width, d width."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import Tensor, nn

from ibllm.plugin import Context, Latent, Residual
from ibllm_gan.config import R3GANCriticConfig
from ibllm_gan.critic import SLOPE, TrunkCritic, check_size

#: Gain of the weights' initial size that makes up for a leaky ReLU (He et al. 2015).
GAIN = math.sqrt(2 / (1 + SLOPE**2))


class BottleneckBlock(Residual):
    """x + 1×1 (3×3 in groups (1×1 x)), leaky ReLUs between (section 3.3, config E).

    Without norms the start is Fix-up's (Zhang et al. 2019): with L blocks of three convolutions in the network, the first two are scaled
    by L^(−1/4); the last is 0, so that the network begins as its shortcuts.
    """

    def __init__(self, channels: int, config: R3GANCriticConfig) -> None:
        inside, total = channels * config.expansion, config.blocks * len(config.channels)
        enter = nn.Conv2d(channels, inside, 1)
        middle = nn.Conv2d(inside, inside, 3, padding=1, groups=inside // config.group)
        leave = nn.Conv2d(inside, channels, 1, bias=False)
        for convolution in (enter, middle):
            scaled_init(convolution, GAIN * total ** (-1 / 4))
        nn.init.zeros_(leave.weight)
        super().__init__(OrderedDict(enter=enter, relu1=nn.LeakyReLU(SLOPE), middle=middle, relu2=nn.LeakyReLU(SLOPE), leave=leave))


def scaled_init(layer: nn.Conv2d | nn.Linear, gain: float = 1.0) -> None:
    """Normal weights with variance gain² / (inputs of one output), no bias."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class R3GANCritic(TrunkCritic):
    """Stages of residual blocks, halved in between by the mean of 2×2 pixels (which bilinear resampling to half the size is) and a 1×1 convolution.

    The last map becomes a vector by a convolution of its size, channel by channel, and a linear map; its inner product with the embedded
    pooled latent is the score (the paper's class embedding).
    """

    def __init__(self, config: R3GANCriticConfig, context: Context) -> None:
        super().__init__()
        halvings = len(config.channels) - 1
        check_size(config.channels, context.image_shape, 1 << halvings)
        before, height, width = context.image_shape
        self.stages = nn.ModuleList()
        for number, after in enumerate(config.channels):
            change = nn.Conv2d(before, after, 1, bias=number == 0)
            scaled_init(change)
            halve = [nn.AvgPool2d(2)] if number else []
            self.stages.append(nn.Sequential(*halve, change, *(BottleneckBlock(after, config) for _ in range(config.blocks))))
            before = after
        self.gather = nn.Conv2d(before, before, (height >> halvings, width >> halvings), groups=before, bias=False)
        self.image, self.text = nn.Linear(before, config.width, bias=False), nn.Linear(config.latent or context.latent, config.width)
        scaled_init(self.gather)
        scaled_init(self.image)
        self.scale = 1 / math.sqrt(config.width)
        self.complete(config, before)

    def judge(self, seen: Tensor, z: Latent) -> Tensor:
        vector = self.image(self.gather(seen).flatten(1))
        scores: Tensor = self.scale * (vector * self.text(z.pooled)).sum(1)
        return scores
