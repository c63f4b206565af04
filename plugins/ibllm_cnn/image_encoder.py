"""E_y as a convolutional network. Shapes: b batch, c h w image or map, n = h·w places of the last map, d width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibllm.plugin import Context, Dropout, ImageEncoder, Latent, local_contrast, mean_colours, position_embedding
from ibllm_cnn.config import CNNImageEncoderConfig
from ibllm_cnn.layers import residual_block


class CNNImageEncoder(ImageEncoder):
    """One latent vector a place of the last map, each with a learned position; `pooled` is their mean.

    With `factored`, the convolutions see the local contrast alone, and as many more vectors say which colour each place has: forms are then
    recognised whatever their colour, so a form and a colour never seen together can still be read together.
    """

    checkpointed = ("stages",)

    def __init__(self, config: CNNImageEncoderConfig, context: Context) -> None:
        super().__init__()
        self.width, self.factored = config.width or context.width, config.factored
        colours, height, width = context.image_shape
        before = 1 if config.factored else colours
        stages: list[nn.Module] = []
        for number, channels in enumerate(config.channels):
            stages.append(nn.Conv2d(before, channels, 3, stride=2, padding=1))
            stages += [residual_block(channels, config.groups) for _ in range(config.blocks if number else 0)]
            stages += [nn.GroupNorm(config.groups, channels), nn.GELU()]
            before, height, width = channels, (height + 1) // 2, (width + 1) // 2
        self.stages = nn.Sequential(*stages)
        self.project = nn.Linear(before, self.width)
        self.grid = (height, width)
        #: The colours' projection.
        self.shade = (
            nn.Sequential(nn.Linear(colours, self.width), nn.GELU(), nn.Linear(self.width, self.width)) if config.factored else None
        )
        self.positions = position_embedding((2 if config.factored else 1) * height * width, self.width)
        self.norm = nn.LayerNorm(self.width)
        self.drop = Dropout(config)

    def forward(self, y: Tensor) -> Latent:
        seen = local_contrast(y) if self.factored else y
        # Convolutions run faster on CPUs and GPUs alike with the channels last.
        tokens = self.project(self.stages(seen.contiguous(memory_format=torch.channels_last)).flatten(2).transpose(1, 2))
        if self.shade is not None:
            tokens = torch.cat([tokens, self.shade(mean_colours(y, seen, self.grid))], 1)
        tokens = self.drop(self.norm(tokens + self.positions))
        return Latent(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=y.device), tokens.mean(1))
