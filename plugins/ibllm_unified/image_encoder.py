"""E_y: the image as the backbone's layers read it. Shapes: b batch, c h w image, n patches, d width."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ibllm.plugin import Context, GridPositions, ImageEncoder, Latent, borrow, local_contrast, mean_colours
from ibllm_unified.backbone import SequenceBackbone
from ibllm_unified.config import UnifiedImageEncoderConfig


class UnifiedImageEncoder(ImageEncoder):
    """One latent place a patch, row by row, embedded with its place; `pooled` is their mean.

    Images are read by an embedding of their own and not by that of the tokens that are written, as in Janus (Wu et al. 2024), so that gradients
    reach the image.

    With `factored`, a patch shows the local contrast alone, and its place's mean colour is added: forms are then recognised whatever their colour.
    """

    backbone: SequenceBackbone

    def __init__(self, config: UnifiedImageEncoderConfig, context: Context) -> None:
        super().__init__()
        borrow(self, backbone=cast(SequenceBackbone, context.shared[config.backbone]))
        self.width = self.backbone.width
        c, height, width = context.image_shape
        if height % config.patch or width % config.patch:
            raise ValueError(f"patch = {config.patch}: expected a divisor of the image's height {height} and width {width}")
        self.grid, colours, c = (height // config.patch, width // config.patch), c, 1 if config.factored else c
        #: The colours' projection.
        self.shade = (
            nn.Sequential(nn.Linear(colours, self.width), nn.GELU(), nn.Linear(self.width, self.width)) if config.factored else None
        )
        layers: list[nn.Module] = []
        for number, channels in enumerate(config.channels):
            layers += [nn.Conv2d(c, channels, 3, stride=1 if number == 0 else 2, padding=1), nn.GELU()]
            c = channels
        side = config.patch // 2 ** max(len(config.channels) - 1, 0)
        self.enter = nn.Sequential(*layers, nn.Conv2d(c, self.width, side, stride=side))
        self.positions = GridPositions(*self.grid, self.width)

    def forward(self, y: Tensor) -> Latent:
        seen = y if self.shade is None else local_contrast(y)
        x = self.enter(seen).flatten(2).transpose(1, 2) + self.positions()
        if self.shade is not None:
            x = x + self.shade(mean_colours(y, seen, self.grid))
        return Latent(x, torch.ones(x.shape[:2], dtype=torch.bool, device=y.device), x.mean(1))
