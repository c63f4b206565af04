"""The loop against the same mathematics written by hand on the same parts: at most 3 % on top, paired in one run."""

from __future__ import annotations

import torch

from . import gpu
from .rounds import both


@both
def test_the_loop_costs_at_most_three_percent(measured: bool) -> None:
    found = dict(gpu.loop(gpu.Plan(torch.device("cpu"), tiny=not measured)))
    print(f"loop / by hand: median {found['ratio']:.3f} of {sorted(round(r, 3) for r in found['ratios'])}")
    assert found["ratio"] <= 1.03 or not measured
