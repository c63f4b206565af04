"""Schedules give what torch's own schedulers and their closed forms give."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from ibllm_optim.config import ConstantConfig, CosineConfig, LinearConfig, PiecewiseConfig, StepConfig
from ibllm_optim.schedule import Constant, Cosine, Linear, Piecewise, Step

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.optimisation import Schedule

STEPS = 40


def torch_rates(make: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]) -> list[float]:
    """The rates that a torch scheduler gives over a stage, from a base rate of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(STEPS):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


def rates(schedule: Schedule) -> list[float]:
    return [schedule.factor(step, STEPS) for step in range(STEPS)]


def test_cosine_equals_torch() -> None:
    expected = torch_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=STEPS, eta_min=0.1))
    assert rates(Cosine(CosineConfig(final=0.1), Context())) == pytest.approx(expected, abs=1e-6)


def test_step_equals_torch() -> None:
    expected = torch_rates(lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=7, gamma=0.9))
    assert rates(Step(StepConfig(every=7), Context())) == pytest.approx(expected, rel=1e-6)


def test_step_by_fraction_is_that_part_of_the_stage() -> None:
    assert rates(Step(StepConfig(fraction=0.25, gamma=0.5), Context())) == [0.5 ** (step // 10) for step in range(STEPS)]
    assert Step(StepConfig(fraction=0.1, gamma=0.5), Context()).factor(1, 2) == 0.5  # a stair is never shorter than a step


def test_linear_equals_torch() -> None:
    expected = torch_rates(lambda o: torch.optim.lr_scheduler.LinearLR(o, start_factor=1.0, end_factor=0.2, total_iters=STEPS))
    assert rates(Linear(LinearConfig(final=0.2), Context())) == pytest.approx(expected, rel=1e-6)


def test_constant_is_one() -> None:
    assert rates(Constant(ConstantConfig(), Context())) == [1.0] * STEPS


@pytest.mark.parametrize(
    "schedule",
    [
        Constant(ConstantConfig(warmup=8), Context()),
        Cosine(CosineConfig(warmup=8, final=0.1), Context()),
        Linear(LinearConfig(warmup=8, final=0.1), Context()),
    ],
)
def test_warm_up_rises_to_one_and_then_the_schedule_starts(schedule: Schedule) -> None:
    assert [schedule.factor(step, STEPS) for step in range(8)] == pytest.approx([(step + 1) / 8 for step in range(8)])
    assert schedule.factor(8, STEPS) == pytest.approx(1.0)


def test_cosine_after_a_warm_up_spans_what_is_left() -> None:
    schedule = Cosine(CosineConfig(warmup=10, final=0.2), Context())
    assert schedule.factor(25, STEPS) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 2)) / 2)
    assert schedule.factor(STEPS, STEPS) == pytest.approx(0.2)


def test_a_warm_up_longer_than_the_stage_is_only_cut_short() -> None:
    assert Cosine(CosineConfig(warmup=100), Context()).factor(49, 50) == pytest.approx(0.5)


def test_from_one_factor_to_another_over_some_steps() -> None:
    """As numpy interpolates, and half a cosine; afterwards it stays."""
    line = rates(Linear(LinearConfig(start=0.2, to=2.0, over=10), Context()))
    assert line == pytest.approx(np.interp(range(STEPS), [0, 10], [0.2, 2.0]), abs=1e-12)
    arc = rates(Cosine(CosineConfig(start=0.2, to=2.0, over=10), Context()))
    assert arc == pytest.approx([2.0 - 1.8 * (1 + math.cos(math.pi * min(1, step / 10))) / 2 for step in range(STEPS)], abs=1e-12)


def test_piecewise_values() -> None:
    given = {"at": (2, 10, 30), "values": (0.5, 2.0, 1.0)}
    assert rates(Piecewise(PiecewiseConfig(**given, between="lines"), Context())) == pytest.approx(
        np.interp(range(STEPS), given["at"], given["values"]), abs=1e-12
    )
    assert rates(Piecewise(PiecewiseConfig(**given), Context())) == [0.5] * 10 + [2.0] * 20 + [1.0] * 10
