"""E_y of the article's reference configuration. Shapes: b batch, c h w image, g cells of the grid in each direction, d latent width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, ImageEncoder, Latent
from ibllm_seed.config import SeedImageEncoderConfig


class SeedImageEncoder(ImageEncoder):
    """One 3×3 convolution; each cell's mean is one place of the latent."""

    def __init__(self, config: SeedImageEncoderConfig, context: Context) -> None:
        super().__init__()
        colours, height, wide = context.image_shape
        if config.grid > min(height, wide):
            raise ValueError(f"grid = {config.grid}: expected at most the image's smaller side, {min(height, wide)}")
        self.width, self.grid = config.width or context.width, config.grid
        self.convolution = nn.Conv2d(colours, self.width, 3, padding=1)

    def forward(self, y: Tensor) -> Latent:
        cells = F.adaptive_avg_pool2d(F.relu(self.convolution(y)), self.grid)
        tokens = cells.flatten(2).transpose(1, 2)
        return Latent(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=y.device), tokens.mean(1))
