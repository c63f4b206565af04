"""D_y as a convolutional network. Shapes: b batch, c h w image or map, m latent width, k noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibllm.plugin import Context, DrawingDecoder, Latent, generalised_normal, into_range
from ibllm_cnn.config import CNNImageDecoderConfig
from ibllm_cnn.layers import residual_block


class CNNImageDecoder(DrawingDecoder):
    """A linear layer gives the first map; nearest-neighbour upsampling and convolutions then take turns.

    Upsampling and convolution apart, not a transposed convolution, so that no checkerboard artefacts appear (Odena et al. 2016).
    """

    checkpointed = ("layers",)

    def __init__(self, config: CNNImageDecoderConfig, context: Context) -> None:
        super().__init__()
        self.config, self.noise_width = config, config.noise
        colours, height, width = context.image_shape
        factor = 2 ** (len(config.channels) - 1)
        if height % factor or width % factor:
            raise ValueError(
                f"channels = {config.channels}: expected an image whose height {height} and width {width} halve {len(config.channels) - 1} times"
            )
        before, *rest = config.channels
        self.first = (before, height // factor, width // factor)
        self.enter = nn.Linear((config.latent or context.latent) + config.noise, before * self.first[1] * self.first[2])
        layers: list[nn.Module] = [nn.GroupNorm(config.groups, before), nn.GELU()]
        for channels in rest:
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(before, channels, 3, padding=1)]
            layers += [residual_block(channels, config.groups) for _ in range(config.blocks)]
            layers += [nn.GroupNorm(config.groups, channels), nn.GELU()]
            before = channels
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, colours, 3, padding=1), into_range(context.bounded))

    def draw(self, z: Latent, noise: Tensor) -> Tensor:
        given = torch.cat([z.pooled, noise.to(z.pooled.dtype)], -1) if self.noise_width else z.pooled
        first = self.enter(given).unflatten(-1, self.first)
        drawn: Tensor = self.layers(first.contiguous(memory_format=torch.channels_last))
        return drawn

    def likelihood(self, y: Tensor, drawn: Tensor) -> Tensor:
        return generalised_normal(y, drawn, self.config.scale, self.config.exponent, self.config.focus)
