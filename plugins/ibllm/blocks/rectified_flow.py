"""What decoders by rectified flow share: the straight path x_t = (1 − t)ε + t·y from noise to data, its times and its bound. Shapes: b batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ibllm_core.interfaces.noise import Rng

#: The least that 1 − t counts for as a divisor (as in Li and He 2025, section 4), and where the bound stops.
MIN_TIME_LEFT = 0.05
#: Width of a timestep embedding, and its greatest frequency in radians a unit of time.
TIMESTEP_WIDTH, GREATEST_FREQUENCY = 64, 200.0


def timestep_embedding(t: Tensor) -> Tensor:
    """t (b) → (b TIMESTEP_WIDTH): cosines and sines of geometrically spaced frequencies (Vaswani et al. 2017, section 3.5)."""
    count = TIMESTEP_WIDTH // 2
    frequencies = torch.exp(torch.linspace(0, math.log(GREATEST_FREQUENCY), count, device=t.device))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)


def bound_times(rng: Rng) -> Tensor:
    """(b) times for `path_bound`: 1 − t is log-uniform from 1 down to `MIN_TIME_LEFT`."""
    return 1 - (math.log(MIN_TIME_LEFT) * rng.uniform()).exp()


def path_bound(error: Tensor, t: Tensor, numbers: Tensor | int, scale: float = 1.0) -> Tensor:
    """(b) an unbiased estimate, from one t and one ε an item, of the variational bound of −log p(y) in nats (Kingma et al. 2021, eqs. 11–15).

    ½ ∫ SNR'(t) ‖y − ŷ(x_t, t)‖² dt up to t = 1 − `MIN_TIME_LEFT`, with SNR(t) = t² / (s(1 − t))² for noise of size s, and from there to the data the
    entropy of the noise that is left, numbers / 2 · log(2πe / SNR). At t = 0 x_t is noise alone and costs nothing.

    Args:
        error: (b) ‖y − ŷ(x_t, t)‖² at the times t (b) of `bound_times`.
        numbers: how many numbers an item has, () or (b).
        scale: s.
    """
    # SNR' = 2t / (s²(1 − t)³), divided by the density 1 / (span·(1 − t)) of t.
    weight = -math.log(MIN_TIME_LEFT) * t / (scale * (1 - t)).square()
    return weight * error + numbers * (0.5 * math.log(2 * math.pi * math.e * (scale * MIN_TIME_LEFT / (1 - MIN_TIME_LEFT)) ** 2))
