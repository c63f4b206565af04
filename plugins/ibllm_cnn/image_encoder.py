"""E_y as a convolutional network. Shapes: b batch, c h w image or map, n = h·w places of the last map, d width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, Dropout, ImageEncoder, Latent, position_embedding
from ibllm_cnn.config import CNNImageEncoderConfig
from ibllm_cnn.layers import residual_block

#: Local contrast: radius in pixels of the neighbourhood, and what is added to the divisor (colours are in −1..1).
CONTRAST_RADIUS, CONTRAST_FLOOR = 4, 0.05
#: Added to the divisor of a place's mean colour, so that a place without contrast has none.
WEIGHT_FLOOR = 1e-3


def local_contrast(y: Tensor) -> Tensor:
    """y (b c h w) → (b 1 h w) in [0, 1): how far each pixel is from the image's median colour, relative to its surroundings.

    Divisive local normalisation (as in Jarrett et al. 2009, section 2.1, with a maximum): what is drawn keeps its form and loses its colour.
    """
    ground = y.detach().flatten(2).median(-1).values[..., None, None]
    distance = (y - ground).abs().amax(1, keepdim=True)
    return distance / (F.max_pool2d(distance, 2 * CONTRAST_RADIUS + 1, stride=1, padding=CONTRAST_RADIUS) + CONTRAST_FLOOR)


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
        self.drop = Dropout(config.dropout)

    def forward(self, y: Tensor) -> Latent:
        seen = local_contrast(y) if self.factored else y
        # Convolutions run faster on CPUs and GPUs alike with the channels last.
        tokens = self.project(self.stages(seen.contiguous(memory_format=torch.channels_last)).flatten(2).transpose(1, 2))
        if self.shade is not None:
            tokens = torch.cat([tokens, self.shade(self._mean_colours(y, seen))], 1)
        tokens = self.drop(self.norm(tokens + self.positions))
        return Latent(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=y.device), tokens.mean(1))

    def _mean_colours(self, y: Tensor, seen: Tensor) -> Tensor:
        """y (b c h w), contrast (b 1 h w) → (b n c): the mean colour of what each place shows, and next to nothing of its form.

        The power leaves edges out, where colours are mixed with the ground's in a way that would tell the form.
        """
        weight = seen.pow(4)
        colour = F.adaptive_avg_pool2d(y * weight, self.grid) / (F.adaptive_avg_pool2d(weight, self.grid) + WEIGHT_FLOOR)
        return colour.flatten(2).transpose(1, 2)
