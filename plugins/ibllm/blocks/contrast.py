"""Form and colour of an image apart, so that a form and a colour never seen together can still be read together. Shapes: b batch, c h w image, n places."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

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


def mean_colours(y: Tensor, contrast: Tensor, grid: tuple[int, int]) -> Tensor:
    """y (b c h w), its local contrast (b 1 h w) → (b n c): the mean colour of what each place of a grid shows, and next to nothing of its form.

    The power leaves edges out, where colours are mixed with the ground's in a way that would tell the form.
    """
    weight = contrast.pow(4)
    colour = F.adaptive_avg_pool2d(y * weight, grid) / (F.adaptive_avg_pool2d(weight, grid) + WEIGHT_FLOOR)
    return colour.flatten(2).transpose(1, 2)
