"""Optimizers follow their published updates; vectors are not decayed."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from ibllm_optim.config import AdamConfig, AdamWConfig, SGDConfig
from ibllm_optim.optimizer import SGD, Adam, AdamW

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.optimisation import Optimizer


def walk(optimizer: Optimizer, gradients: list[float], start: float = 2.0, axes: int = 2) -> list[float]:
    """Where one number goes under given gradients."""
    weight = torch.nn.Parameter(torch.full([1] * axes, start, dtype=torch.float64))
    built = optimizer.build({"weight": weight})
    places = []
    for gradient in gradients:
        weight.grad = torch.full_like(weight, gradient)
        built.step()
        places.append(float(weight.detach()))
    return places


def adam(gradients: list[float], lr: float, b1: float, b2: float, eps: float, decay: float, decoupled: bool) -> list[float]:
    """Kingma and Ba 2015, algorithm 1; decay as in Loshchilov and Hutter 2019, algorithm 2."""
    w, m, v, places = 2.0, 0.0, 0.0, []
    for t, gradient in enumerate(gradients, 1):
        g = gradient if decoupled else gradient + decay * w
        w -= lr * decay * w if decoupled else 0.0
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        w -= lr * (m / (1 - b1**t)) / (math.sqrt(v / (1 - b2**t)) + eps)
        places.append(w)
    return places


GRADIENTS = [0.3, -0.2, 0.5, 0.1, -0.9]


def test_adamw_closed_form() -> None:
    config = AdamWConfig(lr=0.1, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.3)
    assert walk(AdamW(config, Context()), GRADIENTS) == pytest.approx(adam(GRADIENTS, 0.1, 0.8, 0.9, 1e-6, 0.3, True), rel=1e-10)


def test_adam_closed_form() -> None:
    config = AdamConfig(lr=0.1, betas=(0.0, 0.9), eps=1e-6, weight_decay=0.3)
    assert walk(Adam(config, Context()), GRADIENTS) == pytest.approx(adam(GRADIENTS, 0.1, 0.0, 0.9, 1e-6, 0.3, False), rel=1e-10)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_closed_form(nesterov: bool) -> None:
    w, velocity, expected = 2.0, 0.0, []
    for place, gradient in enumerate(GRADIENTS):
        g = gradient + 0.01 * w
        velocity = g if place == 0 else 0.9 * velocity + g
        w -= 0.1 * (g + 0.9 * velocity if nesterov else velocity)
        expected.append(w)
    config = SGDConfig(lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01)
    assert walk(SGD(config, Context()), GRADIENTS) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "optimizer",
    [
        AdamW(AdamWConfig(weight_decay=0.5), Context()),
        Adam(AdamConfig(weight_decay=0.5), Context()),
        SGD(SGDConfig(weight_decay=0.5), Context()),
    ],
)
def test_only_tensors_with_two_axes_are_decayed(optimizer: Optimizer) -> None:
    assert walk(optimizer, [0.0], axes=1) == [2.0]
    assert walk(optimizer, [0.0], axes=2)[0] < 2.0


def test_the_fused_step_is_used_on_the_cpu() -> None:
    assert AdamW(AdamWConfig(), Context()).build({"weight": torch.nn.Parameter(torch.zeros(2, 2))}).defaults["fused"] is True


def test_state_round_trip_goes_on_identically() -> None:
    def fresh() -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        weight = torch.nn.Parameter(torch.ones(3, 3))
        return weight, AdamW(AdamWConfig(lr=0.1), Context()).build({"weight": weight})

    weight, optimizer = fresh()
    other, restored = fresh()
    for place in range(6):
        weight.grad = torch.full_like(weight, 0.1 * place)
        optimizer.step()
        if place == 2:
            restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            other.data.copy_(weight.data)
        if place > 2:
            other.grad = torch.full_like(other, 0.1 * place)
            restored.step()
    assert torch.equal(weight, other)


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a momentum > 0"):
        SGDConfig(nesterov=True)
