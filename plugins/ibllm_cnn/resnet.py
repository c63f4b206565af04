"""E_y as a residual network. Shapes: b batch, c h w image or map, n = h·w places of the last map, d width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, Dropout, ImageEncoder, Latent, position_embedding
from ibllm_cnn.config import ResNetImageEncoderConfig


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, each followed by its norm, and a shortcut (He et al. 2016, fig. 2); where sizes change, the shortcut is projected (option B)."""

    def __init__(self, before: int, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, channels, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(groups, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.GroupNorm(groups, channels),
        )
        self.stride = stride
        same = stride == 1 and before == channels
        self.shortcut = nn.Identity() if same else nn.Sequential(nn.Conv2d(before, channels, 1, bias=False), nn.GroupNorm(groups, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(b c h w) → (b c' h/stride w/stride), rounded up."""
        # Picked before the 1×1 convolution: one that skips places itself makes oneDNN write past its memory on CPUs (torch 2.13, several threads).
        places = x[..., :: self.stride, :: self.stride].contiguous(memory_format=torch.channels_last)
        return F.relu(self.shortcut(places) + self.body(x))


class ResNetImageEncoder(ImageEncoder):
    """One latent vector a place of the last map, each with a learned position; `pooled` is their mean.

    Group norms in place of batch norms: an image's latent does not depend on the others of its batch.
    """

    checkpointed = ("layers",)

    def __init__(self, config: ResNetImageEncoderConfig, context: Context) -> None:
        super().__init__()
        self.width = config.width or context.width
        colours, height, width = context.image_shape
        before = config.channels[0]
        stem = nn.Conv2d(colours, before, config.stem, stride=config.stride, padding=config.stem // 2, bias=False)
        layers: list[nn.Module] = [stem, nn.GroupNorm(config.groups, before), nn.ReLU()]
        strides = [config.stride]
        if config.pool:
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            strides.append(2)
        for number, (channels, blocks) in enumerate(zip(config.channels, config.blocks, strict=True)):
            strides.append(2 if number else 1)
            for block in range(blocks):
                layers.append(BasicBlock(before, channels, 1 if block else strides[-1], config.groups))
                before = channels
        for stride in strides:
            height, width = -(-height // stride), -(-width // stride)
        self.layers = nn.Sequential(*layers)
        self.project = nn.Linear(before, self.width)
        self.positions = position_embedding(height * width, self.width)
        self.norm = nn.LayerNorm(self.width)
        self.drop = Dropout(config)

    def forward(self, y: Tensor) -> Latent:
        # Convolutions run faster on CPUs and GPUs alike with the channels last.
        seen = self.layers(y.contiguous(memory_format=torch.channels_last)).flatten(2).transpose(1, 2)
        tokens = self.drop(self.norm(self.project(seen) + self.positions))
        return Latent(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=y.device), tokens.mean(1))
