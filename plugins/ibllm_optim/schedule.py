"""Schedules: factors on the learning rate, pure functions of the step. Torch-free."""

from __future__ import annotations

import math

from ibllm.plugin import Context, Schedule
from ibllm_optim.config import ConstantConfig, CosineConfig, LinearConfig, StepConfig


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
    """final + (1 − final)·(1 + cos(π·p))/2 at progress p (Loshchilov and Hutter 2017, eq. 5)."""

    def __init__(self, config: CosineConfig, context: Context) -> None:
        self.config = config

    def factor(self, step: int, steps: int) -> float:
        warmup, final = self.config.warmup, self.config.final
        if step < warmup:
            return warmup_factor(step, warmup)
        return final + (1 - final) * (1 + math.cos(math.pi * progress(step, steps, warmup))) / 2


class Step(Schedule):
    """gamma^⌊step / stair⌋."""

    def __init__(self, config: StepConfig, context: Context) -> None:
        self.config = config

    def factor(self, step: int, steps: int) -> float:
        stair = self.config.every or max(1, round(self.config.fraction * steps))
        return float(self.config.gamma ** (step // stair))


class Linear(Schedule):
    """1 − (1 − final)·p at progress p."""

    def __init__(self, config: LinearConfig, context: Context) -> None:
        self.config = config

    def factor(self, step: int, steps: int) -> float:
        warmup, final = self.config.warmup, self.config.final
        if step < warmup:
            return warmup_factor(step, warmup)
        return 1 - (1 - final) * progress(step, steps, warmup)
