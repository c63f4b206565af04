"""Image augmentations in plain torch. Shapes: b batch, c h w image. Images are in [−1, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ibllm.plugin import Rng


def random_crop(y: Tensor, smallest: float, rng: Rng) -> Tensor:
    """A part of each image, of the image's proportions and at least `smallest` of its side, anywhere in it, enlarged to its size."""
    u = rng.uniform(3).to(y)
    side = 1 - (1 - smallest) * u[:, 0]
    centre = (2 * u[:, 1:] - 1) * (1 - side)[:, None]
    matrix = torch.cat([torch.diag_embed(side[:, None].expand(-1, 2)), centre[:, :, None]], 2)
    return F.grid_sample(y, F.affine_grid(matrix, list(y.shape), align_corners=False), padding_mode="border", align_corners=False)


def jitter_brightness(y: Tensor, brightness: float, contrast: float, rng: Rng) -> Tensor:
    """Brighter or darker, and of more or less contrast about the image's mean; all channels alike, so that colours stay what they are called."""
    u = (2 * rng.uniform(2).to(y) - 1)[:, :, None, None, None]
    mean = y.mean((1, 2, 3), keepdim=True)
    return ((y - mean) * (1 + contrast * u[:, 1]) + mean + brightness * u[:, 0]).clamp(-1, 1)


def random_erase(y: Tensor, largest: float, rng: Rng) -> Tensor:
    """A grey rectangle of the image's proportions, of at most `largest` of its side, anywhere in it (random erasing, Zhong et al. 2020)."""
    u = rng.uniform(3).to(y)
    side = largest * u[:, 0]
    inside = []
    for axis, size in ((1, y.shape[2]), (2, y.shape[3])):
        start = u[:, axis] * (1 - side)
        place = (torch.arange(size, device=y.device) + 0.5) / size
        inside.append((place >= start[:, None]) & (place < (start + side)[:, None]))
    return y.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0.0)
