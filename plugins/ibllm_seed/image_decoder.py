"""D_y of the article's reference configuration. Shapes: b batch, c h w image, m latent width, d channels a pixel, k noise (none)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, DrawingDecoder, Latent
from ibllm_seed.config import SeedImageDecoderConfig


class SeedImageDecoder(DrawingDecoder):
    """conv(relu(W z + place)): a convolution of the latent alone would paint every pixel alike, so each pixel has learned numbers."""

    noise_width = 0

    def __init__(self, config: SeedImageDecoderConfig, context: Context) -> None:
        super().__init__()
        colours, height, wide = context.image_shape
        width = config.width or context.width
        self.scale = config.scale
        self.project = nn.Linear(config.latent or context.latent, width)
        self.places = nn.Parameter(torch.randn(width, height, wide))
        self.convolution = nn.Conv2d(width, colours, 3, padding=1)

    def draw(self, z: Latent, noise: Tensor) -> Tensor:
        pixels = F.relu(self.project(z.pooled)[:, :, None, None] + self.places)
        drawn: Tensor = self.convolution(pixels).tanh()
        return drawn

    def likelihood(self, y: Tensor, drawn: Tensor) -> Tensor:
        return ((drawn - y).float().square() / (2 * self.scale**2)).flatten(1).sum(1)
