"""DCGAN, conditioned on text: generator and critic. Shapes: b batch, c h w image or map, m latent width, k noise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, Latent
from ibllm_gan.config import DCGANCriticConfig, DCGANGeneratorConfig
from ibllm_gan.critic import TextConcatenation, TrunkCritic, strided_stages
from ibllm_gan.generator import ConditionalGenerator


class DCGANGenerator(ConditionalGenerator):
    """Project and reshape, then upsample (Radford et al. 2016, figure 1); text and noise are concatenated (Reed et al. 2016, section 4.1).

    The norms are over groups of channels of one image where the paper's are over the batch: an image's likelihood may not depend on
    what else is in the batch, and a frozen or averaged generator has no statistics that lag behind its weights.
    """

    def __init__(self, config: DCGANGeneratorConfig, context: Context) -> None:
        super().__init__(config, context)
        colours, height, width = context.image_shape
        times = len(config.channels)
        if height % 2**times or width % 2**times:
            raise ValueError(
                f"channels = {list(config.channels)!r}: expected 2^{times} to divide the image's height {height} and width {width}"
            )
        self.grid = (height >> times, width >> times)
        self.project = nn.Linear(self.input_width, config.channels[0] * self.grid[0] * self.grid[1])
        after = [*config.channels[1:], colours]
        self.norms = nn.ModuleList(nn.GroupNorm(config.groups, channels) for channels in config.channels)
        self.doubles = nn.ModuleList(_upsample(config.upsample, a, b) for a, b in zip(config.channels, after, strict=True))

    def draw(self, z: Latent, noise: Tensor) -> Tensor:
        _, condition = self.condition(z, noise)
        x = self.project(condition).unflatten(1, (-1, *self.grid)).contiguous(memory_format=torch.channels_last)
        for norm, upsample in zip(self.norms, self.doubles, strict=True):
            x = upsample(F.relu(norm(x)))
        drawn: Tensor = self.into_range(x)
        return drawn


def _upsample(upsample: str, before: int, after: int) -> nn.Module:
    """(b before h w) → (b after 2h 2w)."""
    if upsample == "transposed":
        return nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1))


class DCGANCritic(TrunkCritic):
    """Strided convolutions (Radford et al. 2016); text concatenated to every place of the last map, a 1×1 convolution, one score (Reed et al. 2016).

    No norms, where the papers have them over the batch: see `TrunkCritic`.
    """

    def __init__(self, config: DCGANCriticConfig, context: Context) -> None:
        super().__init__()
        self.stages, (channels, height, width) = strided_stages(config.channels, context.image_shape)
        self.join = TextConcatenation(config.latent or context.latent, config.width, channels, channels)
        self.last = nn.Linear(channels * height * width, 1)
        self.complete(config, channels)

    def judge(self, seen: Tensor, z: Latent) -> Tensor:
        scores: Tensor = self.last(self.join(seen, z).flatten(1)).squeeze(1)
        return scores
