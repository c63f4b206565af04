"""The reconstruction likelihood that drawing decoders share. Shapes: b batch, c h w image in [−1, 1]."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

#: Pixels that differ from the image's median by this much (of −1..1) in a channel are in focus, and so is what lies this near, in pixels.
FOCUS_THRESHOLD, FOCUS_REACH = 0.2, 3


def generalised_normal(y: Tensor, drawn: Tensor, scale: float, exponent: float, focus: float = 0.0, reach: int = FOCUS_REACH) -> Tensor:
    """(b) −log p(y | drawn) up to a constant: ``Σ |(drawn − y) / scale|^exponent / exponent`` over the image (Subbotin 1923), in float32.

    Exponent 2 is a Gaussian of σ = scale, 1 a Laplace distribution. With `focus`, every pixel is weighted by `focus_weights`.
    """
    terms = ((drawn - y).float().abs() / scale).pow(exponent) / exponent
    if focus:
        terms = terms * focus_weights(y, focus, reach)
    return terms.flatten(1).sum(1)


def focus_weights(y: Tensor, focus: float, reach: int = FOCUS_REACH) -> Tensor:
    """(b 1 h w) weights of mean 1: pixels on and around what differs from the image's median colour weigh 1 + `focus` times the others."""
    ground = y.flatten(2).median(-1).values[..., None, None]
    seen = ((y - ground).abs().amax(1, keepdim=True) > FOCUS_THRESHOLD).to(y.dtype)
    near = F.max_pool2d(seen, 2 * reach + 1, stride=1, padding=reach)
    weights = 1 + focus * near
    return weights / weights.mean((2, 3), keepdim=True)
