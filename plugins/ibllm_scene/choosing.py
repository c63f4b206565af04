"""Which drawings of neighbouring captions fit best. Shapes: k windows around a world, n drawings of each, c h w a window's pixels, o columns of overlap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .plan import Plan


def fitting(plan: Plan, drawings: Tensor) -> Tensor:
    """(n k c h w) drawings of the windows of a sequence → (k c h w) one of each, so that they differ least where they overlap."""
    n, k, w = drawings.shape[0], drawings.shape[1], plan.canvas[1]
    costs = np.zeros((k, n, n))
    for window in range(k):
        after = (window + 1) % k
        shift = (plan.windows[after].left - plan.windows[window].left) % plan.width
        here, there = drawings[:, window, ..., shift:], drawings[:, after, ..., : w - shift]
        costs[window] = torch.stack([(one - there).square().sum((1, 2, 3)) for one in here]).double().cpu().numpy()
    return torch.stack([drawings[chosen, window] for window, chosen in enumerate(ring(costs))])


def ring(costs: npt.NDArray[np.float64]) -> list[int]:
    """The cheapest way once around: for each of k places one of n, where going from i at place p to j at the next costs ``costs[p, i, j]``, the last place's
    next being the first (dynamic programming, from every i of the first place).

    Args:
        costs: (k n n).
    """
    n = costs.shape[1]
    total = np.where(np.eye(n, dtype=bool), 0.0, np.inf)
    came = []
    for cost in costs:
        # (start, from, to)
        reached = total[:, :, None] + cost
        came.append(reached.argmin(axis=1))
        total = reached.min(axis=1)
    start = at = int(np.diagonal(total).argmin())
    way = []
    for before in reversed(came):
        at = int(before[start, at])
        way.append(at)
    assert way[-1] == start
    return way[::-1]
