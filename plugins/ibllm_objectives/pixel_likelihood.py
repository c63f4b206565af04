"""Likelihoods of an image around a drawn one. Shapes: b batch, c h w image in [−1, 1], k components of a mixture."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import at_least_float32

#: Levels of a channel; level i is the number 2·i / 255 − 1.
LEVELS = 256
#: Smallest log s of a component: e⁻⁷ is a quarter of a level (PixelCNN++ has the same bound).
SMALLEST_LOG_SCALE = -7.0


def laplace_nll(y: Tensor, drawn: Tensor, scale: float) -> Tensor:
    """(b) Σ |y − drawn| / s + log 2s, the density of a Laplace distribution of scale s around the drawn image, in nats."""
    error = (y - at_least_float32(drawn)).abs() / scale
    return (error + math.log(2 * scale)).flatten(1).sum(1)


def gaussian_nll(y: Tensor, drawn: Tensor, scale: float) -> Tensor:
    """(b) Σ ((y − drawn) / σ)² / 2 + log σ√(2π), the density of a Gaussian of deviation σ = `scale` around the drawn image, in nats."""
    error = ((y - at_least_float32(drawn)) / scale).square() / 2
    return (error + math.log(scale * math.sqrt(2 * math.pi))).flatten(1).sum(1)


class LogisticMixture(nn.Module):
    """A discretised mixture of logistic distributions over the 256 levels of each channel of each pixel (PixelCNN++: Salimans et al. 2017, eq. 1–2).

    P(level y) = Σ_k π_k·[σ((y + δ − μ_k) / s_k) − σ((y − δ − μ_k) / s_k)], δ = 1/255 half a level, where −1 takes in everything below and 1
    everything above, so that the levels' probabilities sum to 1. A 1×1 convolution reads π, s and the means' offsets from the drawn
    value off the drawn pixel. Channels are independent given the drawn image; PixelCNN++ lets each depend on those before.

    Args:
        channels: c.
        components: k.
    """

    def __init__(self, channels: int, components: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, 3 * channels * components, 1)
        self.components = components
        with torch.no_grad():
            # The components begin apart, each a tenth of the range wide, around the drawn value: alike, they would stay alike.
            bias = self.head.bias.view(3, components, channels)  # type: ignore[union-attr]
            bias[0], bias[2] = 0, math.log(0.1)
            bias[1] = torch.linspace(-1, 1, components).mul(0.2 if components > 1 else 0)[:, None]
            self.head.weight.mul_(0.1)

    def forward(self, drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mixture at a drawn image: log π, μ, log s, each (b k c h w)."""
        b, c, h, w = drawn.shape
        weights, offsets, log_scales = at_least_float32(self.head(drawn)).view(b, 3, self.components, c, h, w).unbind(1)
        return weights.log_softmax(1), at_least_float32(drawn)[:, None] + offsets, log_scales.clamp(min=SMALLEST_LOG_SCALE)

    def nll(self, y: Tensor, drawn: Tensor) -> Tensor:
        """(b) −log P(y | drawn) in nats, of images y that hold levels."""
        log_weights, means, log_scales = self(drawn)
        return -(log_weights + log_discretised_logistic(y[:, None], means, log_scales)).logsumexp(1).flatten(1).sum(1)


def log_discretised_logistic(y: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log P(level y) of a discretised logistic distribution, shapes broadcast.

    σ(a) − σ(b) = σ(a)·σ(−b)·(1 − e^(b−a)), whose logarithm is a sum without cancellation: far from the mean there is still a gradient.
    """
    half, inverse = 1 / (LEVELS - 1), (-log_scale).exp()
    above, below = (y + half - mean) * inverse, (y - half - mean) * inverse
    lowest, highest = y < -1 + half, y > 1 - half
    log_inside = torch.log(-torch.expm1(-2 * half * inverse))
    up = F.logsigmoid(above).masked_fill(highest, 0)
    down = F.logsigmoid(-below).masked_fill(lowest, 0)
    return up + down + log_inside.masked_fill(lowest | highest, 0)
