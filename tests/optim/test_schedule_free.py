"""Schedule-free AdamW follows its published recurrences, and the loop uses the average wherever weights are used."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from ibllm_optim.config import ScheduleFreeConfig
from ibllm_optim.optimizer import ScheduleFree
from torch import nn

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.optimisation import EvaluationWeights
from ibllm_core.model.players import Player, pack_optimizer, unpack_optimizer

needs_package = pytest.mark.skipif(importlib.util.find_spec("schedulefree") is None, reason="the extra schedulefree is not installed")


def recurrences(steps: int, lr: float, b1: float, b2: float, eps: float, decay: float) -> tuple[list[float], list[float]]:
    """Defazio et al. 2024, algorithm 1, on the quadratic (w − 3)²/2 from 1: where gradients are taken (y) and what is used (x)."""
    x = z = 1.0
    v = weights = 0.0
    ys, xs = [], []
    for t in range(1, steps + 1):
        y = (1 - b1) * z + b1 * x
        g = y - 3
        v = b2 * v + (1 - b2) * g * g
        z = z - lr * (g / (math.sqrt(v / (1 - b2**t)) + eps) + decay * y)
        weights += lr * lr
        x = (1 - lr * lr / weights) * x + lr * lr / weights * z
        ys.append((1 - b1) * z + b1 * x)
        xs.append(x)
    return ys, xs


def made(config: ScheduleFreeConfig) -> tuple[nn.Parameter, Player]:
    weight = nn.Parameter(torch.ones(1, 1, dtype=torch.float64))
    optimizer = ScheduleFree(config, Context()).build({"weight": weight})
    return weight, Player("model", {"weight": weight}, [], optimizer, 1.0, 1)


def step(weight: nn.Parameter, player: Player) -> None:
    weight.grad = weight.detach() - 3
    player.set_rate(1.0)
    player.optimizer.step()


@needs_package
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_published_recurrences(decay: float) -> None:
    weight, player = made(ScheduleFreeConfig(lr=0.05, betas=(0.9, 0.95), eps=1e-6, weight_decay=decay))
    ys, xs = recurrences(12, 0.05, 0.9, 0.95, 1e-6, decay)
    for y, x in zip(ys, xs, strict=True):
        step(weight, player)
        assert float(weight.detach()) == pytest.approx(y, rel=1e-9)
        with player.evaluation_weights():
            assert float(weight.detach()) == pytest.approx(x, rel=1e-9)


@needs_package
def test_looking_at_the_average_changes_nothing() -> None:
    looked, blind = made(ScheduleFreeConfig(lr=0.05)), made(ScheduleFreeConfig(lr=0.05))
    assert isinstance(looked[1].optimizer, EvaluationWeights)
    for _ in range(8):
        step(*looked)
        step(*blind)
        with looked[1].evaluation_weights():
            pass
        assert torch.equal(looked[0], blind[0])
    looked[1].optimizer.eval()
    with blind[1].evaluation_weights():
        assert torch.equal(looked[0], blind[0])


@needs_package
def test_it_goes_on_from_a_checkpoint_as_if_nothing_happened() -> None:
    whole, first = made(ScheduleFreeConfig(lr=0.05)), made(ScheduleFreeConfig(lr=0.05))
    for _ in range(6):
        step(*whole)
    for _ in range(3):
        step(*first)
    tensors, values = pack_optimizer(first[1].optimizer)
    second = made(ScheduleFreeConfig(lr=0.05))
    second[0].data.copy_(first[0].detach())
    unpack_optimizer(second[1].optimizer, {name: tensor.clone() for name, tensor in tensors.items()}, values)
    for _ in range(3):
        step(*second)
    assert torch.equal(whole[0], second[0])


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "ibllm\[schedulefree\]"'):
        ScheduleFree(ScheduleFreeConfig(), Context())


def test_plain_optimizers_have_one_face(tmp_path: Path) -> None:
    assert not isinstance(torch.optim.AdamW([nn.Parameter(torch.zeros(1))]), EvaluationWeights)
