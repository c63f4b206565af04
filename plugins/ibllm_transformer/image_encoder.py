"""E_y as a transformer. Shapes: b batch, c h w image, n patches, d width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibllm.plugin import Backbone, Context, GridPositions, ImageEncoder, Latent
from ibllm_transformer.config import ViTImageEncoderConfig
from ibllm_transformer.layers import EncoderLayer, borrow_backbone


class ViTImageEncoder(ImageEncoder):
    """One latent place a patch, row by row, each seeing the whole image (Dosovitskiy et al. 2021); `pooled` is their mean."""

    checkpointed = ("layers",)
    #: What follows the layers.
    backbone: Backbone | None = None

    def __init__(self, config: ViTImageEncoderConfig, context: Context) -> None:
        super().__init__()
        self.width = config.width or context.width
        channels, height, width = context.image_shape
        if height % config.patch or width % config.patch:
            raise ValueError(f"patch = {config.patch}: expected a divisor of the image's height {height} and width {width}")
        self.enter = nn.Conv2d(channels, self.width, config.patch, stride=config.patch)
        self.positions = GridPositions(height // config.patch, width // config.patch, self.width)
        self.layers = nn.ModuleList(EncoderLayer(self.width, config.heads, config.ratio, config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(self.width)
        borrow_backbone(self, config.backbone, context)

    def forward(self, y: Tensor) -> Latent:
        x = self.enter(y).flatten(2).transpose(1, 2) + self.positions()
        for layer in self.layers:
            x = layer(x)
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=y.device)
        if self.backbone is not None:
            x = self.backbone(x, mask)
        x = self.norm(x)
        return Latent(x, mask, x.mean(1))
