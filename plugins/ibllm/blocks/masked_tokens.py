"""What decoders by masked tokens share: how many are written in a step, which ones, and by what chance (Chang et al. 2022, MaskGIT).

Shapes: b batch, m tokens.
"""

from __future__ import annotations

import math

from torch import Tensor


def mask_schedule(tokens: int, steps: int) -> list[int]:
    """Tokens still masked after each step, ⌊m·cos(π/2 · i/steps)⌋ (Chang et al. 2022, section 3.3), at least one fewer each time, 0 at last."""
    left = [tokens]
    for step in range(1, steps):
        left.append(min(math.floor(tokens * math.cos(math.pi / 2 * step / steps)), left[-1] - 1))
    return [number for number in left[1:] if number > 0] + [0]


def k_smallest(values: Tensor, number: int | Tensor) -> Tensor:
    """values (b m), number, one for all or (b 1) → (b m) bool, True at each row's `number` smallest values."""
    return values.argsort(1).argsort(1) < number


def gumbel(uniform: Tensor) -> Tensor:
    """Standard Gumbel noise of uniform numbers in [0, 1)."""
    return -(-uniform.clamp(min=1e-9).log()).log()
