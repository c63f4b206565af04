"""Solvers of the flow's differential equation. Shapes: b batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: x (b …), t (b) → velocity (b …).
Velocity = Callable[[Tensor, Tensor], Tensor]


def integrate(velocity: Velocity, noise: Tensor, steps: int, solver: str) -> Tensor:
    """dx/dt = v(x, t) from x = noise (b …) at t = 0 to t = 1 in equal steps.

    Args:
        solver: ``euler``, of first order; ``heun``, of second order (the trapezoid on Euler's prediction), whose last step is Euler's, since velocities
            made from a predicted image are not defined at t = 1 (Karras et al. 2022, algorithm 1).
    """
    x = noise
    for step in range(steps):
        t = torch.full((len(x),), step / steps, device=x.device)
        v = velocity(x, t)
        if solver == "heun" and step + 1 < steps:
            v = (v + velocity(x + v / steps, t + 1 / steps)) / 2
        x = x + v / steps
    return x
