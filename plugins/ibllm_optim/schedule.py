"""Schedules: factors on a number, the learning rate above all; pure functions of the step. Torch-free."""

from __future__ import annotations

import bisect
import math

from ibllm.plugin import Context, Schedule
from ibllm_optim.config import ConstantConfig, CosineConfig, LinearConfig, PiecewiseConfig, StepConfig


def warmup_factor(step: int, warmup: int) -> float:
    """The rise to 1: (step + 1) / warmup, so that the very first step already moves."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def progress(step: int, steps: int, warmup: int) -> float:
    """How much of what follows the warm-up has passed, in [0, 1)."""
    return min(1.0, max(0, step - warmup) / max(1, steps - warmup))


class Constant(Schedule):
    """1 after the warm-up."""

    def __init__(self, config: ConstantConfig, context: Context) -> None:
        self.config = config

    def factor(self, step: int, steps: int) -> float:
        return warmup_factor(step, self.config.warmup)


class Cosine(Schedule):
    """b + (a − b)·(1 + cos(π·p))/2 from a to b at progress p (Loshchilov and Hutter 2017, eq. 5)."""

    def __init__(self, config: CosineConfig, context: Context) -> None:
        self.config = config

    def factor(self, step: int, steps: int) -> float:
        given = self.config
        if step < given.warmup:
            return given.start * warmup_factor(step, given.warmup)
        return given.end + (given.start - given.end) * (1 + math.cos(math.pi * progress(step, given.over or steps, given.warmup))) / 2


class Step(Schedule):
    """gamma^⌊step / stair⌋."""

    def __init__(self, config: StepConfig, context: Context) -> None:
        self.config = config

    def factor(self, step: int, steps: int) -> float:
        stair = self.config.every or max(1, round(self.config.fraction * steps))
        return float(self.config.gamma ** (step // stair))


class Linear(Schedule):
    """a − (a − b)·p from a to b at progress p."""

    def __init__(self, config: LinearConfig, context: Context) -> None:
        self.config = config

    def factor(self, step: int, steps: int) -> float:
        given = self.config
        if step < given.warmup:
            return given.start * warmup_factor(step, given.warmup)
        return given.start - (given.start - given.end) * progress(step, given.over or steps, given.warmup)


class Piecewise(Schedule):
    """Values from given steps on, with a step or a line from one to the next."""

    def __init__(self, config: PiecewiseConfig, context: Context) -> None:
        self.config = config

    def factor(self, step: int, steps: int) -> float:
        at, values = self.config.at, self.config.values
        k = bisect.bisect_right(at, step) - 1
        if k < 0 or k == len(at) - 1 or self.config.between == "steps":
            return values[max(k, 0)]
        part = (step - at[k]) / (at[k + 1] - at[k])
        return values[k] + (values[k + 1] - values[k]) * part
