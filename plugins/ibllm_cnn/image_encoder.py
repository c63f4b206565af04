"""E_y as a convolutional network. Shapes: b batch, c h w image or map, n = h·w places of the last map, d width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibllm_cnn.config import CNNImageEncoderConfig
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.image import ImageEncoder
from ibllm_core.interfaces.latent import Latent


class Residual(nn.Module):
    """Two 3×3 convolutions behind norms, beside a residual (pre-activation, He et al. 2016)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(groups, channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(groups, channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b c h w) → (b c h w)."""
        out: Tensor = x + self.body(x)
        return out


class CNNImageEncoder(ImageEncoder):
    """One latent vector a place of the last map, each with a learned position; `pooled` is their mean."""

    def __init__(self, config: CNNImageEncoderConfig, context: Context) -> None:
        super().__init__()
        self.width = config.width or context.width
        before, height, width = context.image_shape
        stages: list[nn.Module] = []
        for number, channels in enumerate(config.channels):
            stages.append(nn.Conv2d(before, channels, 3, stride=2, padding=1))
            stages += [Residual(channels, config.groups) for _ in range(config.blocks if number else 0)]
            stages += [nn.GroupNorm(config.groups, channels), nn.GELU()]
            before, height, width = channels, (height + 1) // 2, (width + 1) // 2
        self.stages = nn.Sequential(*stages)
        self.project = nn.Linear(before, self.width)
        self.positions = nn.Parameter(torch.randn(height * width, self.width) * 0.5)
        self.norm = nn.LayerNorm(self.width)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, y: Tensor) -> Latent:
        # Convolutions run faster on CPUs and GPUs alike with the channels last.
        features = self.stages(y.contiguous(memory_format=torch.channels_last)).flatten(2).transpose(1, 2)
        tokens = self.drop(self.norm(self.project(features) + self.positions))
        return Latent(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=y.device), tokens.mean(1))
