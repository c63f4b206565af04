"""The convolutional body that the codecs share. Shapes: b batch, c h w image, r s rows and columns of places, d numbers a place."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from ibllm.plugin import Context, ImageCodec, Residual
from ibllm_tokens.config import AutoencoderOptions


def residual_block(channels: int) -> Residual:
    """(b c h w) → (b c h w): ReLU, 3×3 convolution, ReLU, 1×1 convolution (van den Oord et al. 2017, section 4.1)."""
    spread, mix = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)
    return Residual(OrderedDict(relu1=nn.ReLU(), spread=spread, relu2=nn.ReLU(), mix=mix))


class ConvCodec(ImageCodec):
    """Patches enter by one linear layer and leave by another; between them residual blocks on ever smaller maps, with a bottleneck at the smallest.

    Args:
        given: d, numbers a place that the encoder gives.
        taken: d, numbers a place that the decoder takes.
    """

    checkpointed = ("down", "up")

    def __init__(self, config: AutoencoderOptions, context: Context, given: int, taken: int) -> None:
        super().__init__()
        colours, height, width = context.image_shape
        stride = config.stride
        if height % stride or width % stride:
            raise ValueError(
                f"patch = {config.patch} with {len(config.channels)} stages: expected {stride} to divide the image's {height} × {width}"
            )
        self.grid = (height // stride, width // stride)
        first, last, patch = config.channels[0], config.channels[-1], config.patch
        down: list[nn.Module] = [nn.Conv2d(colours, first, patch, stride=patch)]
        up: list[nn.Module] = [nn.ConvTranspose2d(first, colours, patch, stride=patch)]
        for number, channels in enumerate(config.channels):
            if number:
                before = config.channels[number - 1]
                down.append(nn.Conv2d(before, channels, 4, stride=2, padding=1))
                up.append(nn.ConvTranspose2d(channels, before, 4, stride=2, padding=1))
            down += [residual_block(channels) for _ in range(config.blocks)]
            up += [residual_block(channels) for _ in range(config.blocks)]
        self.down = nn.Sequential(*down, nn.Conv2d(last, given, 1))
        self.up = nn.Sequential(nn.Conv2d(taken, last, 3, padding=1), *reversed(up))

    def _encode(self, y: Tensor) -> Tensor:
        """y (b c h w) → (b d r s), before the bottleneck."""
        # Convolutions run faster on CPUs and GPUs alike with the channels last.
        places: Tensor = self.down(y.contiguous(memory_format=torch.channels_last))
        return places

    def _decode(self, places: Tensor) -> Tensor:
        """(b d r s) → (b c h w) in [−1, 1]."""
        drawn: Tensor = self.up(places.contiguous(memory_format=torch.channels_last))
        return drawn.tanh()
