"""Penalties on the critic's gradient equal finite differences, and closed forms where the critic is linear."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from ibllm_adversarial.config import (
    GradientPenaltyConfig,
    MatchingAwarePenaltyConfig,
    WGANGPConfig,
)
from ibllm_adversarial.loss import WGANGP
from ibllm_adversarial.penalty import GradientPenalty, MatchingAwarePenalty
from torch import Tensor, nn

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.image import Discriminator
from ibllm_core.interfaces.latent import Latent
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model

MakeCycle = Callable[..., Cycle]


def finite(model: Model, y: Tensor, z: Latent, by_latent: bool, h: float = 1e-5, forms: tuple[str, ...] = ("tokens", "pooled")) -> float:
    """Mean over items of ‖∇C‖² by central differences, number by number."""
    critic = model.part("discriminator")
    places = [y, *(getattr(z, form) for form in forms)] if by_latent else [y]
    squared = torch.zeros(len(y), dtype=torch.float64)
    for tensor in places:
        rows = tensor.view(len(y), -1)
        for k in range(rows.shape[1]):
            rows[:, k] += h
            up = critic(y, z)
            rows[:, k] -= 2 * h
            down = critic(y, z)
            rows[:, k] += h
            squared += ((up - down) / (2 * h)) ** 2
    return float(squared.mean())


def one(z: Latent, i: int) -> Latent:
    return Latent(z.tokens[i : i + 1].clone(), z.mask[i : i + 1], z.pooled[i : i + 1].clone())


class Linear(Discriminator):
    """C(y, z) = w·y + 2·Σ pooled: its gradient is w everywhere."""

    def __init__(self, norm: float) -> None:
        super().__init__()
        w = torch.randn(48, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        self.w = nn.Parameter(w / w.norm() * norm)

    def forward(self, y: Tensor, z: Latent) -> Tensor:
        return y.flatten(1) @ self.w + 2 * z.pooled.sum(1)


@pytest.mark.parametrize("norm", [0.25, 1.0, 3.0])
def test_wgan_penalty_of_a_linear_critic(cycle: MakeCycle, model: Model, norm: float) -> None:
    model.parts["discriminator"] = Linear(norm)
    made = cycle()
    bare, full = (WGANGP(WGANGPConfig(penalty=p), Context()).critic(made).item() for p in (0.0, 10.0))
    assert full - bare == pytest.approx(10 * (norm - 1) ** 2, abs=1e-9)


def test_wgan_penalty_equals_finite_differences_between_the_images(cycle: MakeCycle, model: Model) -> None:
    made = cycle()
    bare, full = (WGANGP(WGANGPConfig(penalty=p), Context()).critic(made).item() for p in (0.0, 10.0))
    with torch.no_grad():
        share = made.rng("wgan_gp").uniform(1, 1, 1).double()
        assert share.shape == (3, 1, 1, 1) and len(share.unique()) == 3
        y = share * made.y + (1 - share) * made.y_fake
        z = made.z_x.detach()
        norms = torch.tensor([finite(model, y[i : i + 1].clone(), one(z, i), False) for i in range(3)]).sqrt()
    assert full - bare == pytest.approx(10 * float((norms - 1).square().mean()), rel=1e-6)


def test_wgan_penalty_of_a_flat_critic_has_a_finite_gradient(cycle: MakeCycle, model: Model) -> None:
    model.parts["discriminator"] = Linear(0.0)
    WGANGP(WGANGPConfig(), Context()).critic(cycle()).backward()  # type: ignore[no-untyped-call]
    gradient = model.part("discriminator").w.grad
    assert isinstance(gradient, Tensor) and gradient.isfinite().all()


@pytest.mark.parametrize("by", [("tokens", "pooled"), ("pooled",)])
def test_matching_aware_penalty_equals_finite_differences(cycle: MakeCycle, model: Model, by: tuple[str, ...]) -> None:
    made = cycle()
    config = MatchingAwarePenaltyConfig(scale=2.0, exponent=6.0, by=by)
    with torch.no_grad():
        z = made.z_x.detach()
        squares = [finite(model, made.y[i : i + 1].clone(), one(z, i), True, forms=by) for i in range(3)]
    expected = 2 * sum(square**3 for square in squares) / 3
    assert float(MatchingAwarePenalty(config, Context()).critic(made).detach()) == pytest.approx(expected, rel=1e-6)


def test_matching_aware_penalty_of_a_linear_critic(cycle: MakeCycle, model: Model) -> None:
    model.parts["discriminator"] = Linear(3.0)
    value = MatchingAwarePenalty(MatchingAwarePenaltyConfig(), Context()).critic(cycle())
    assert float(value.detach()) == pytest.approx(2 * (9 + 4 * 5) ** 3)  # the pooled vector has 5 numbers, each with slope 2


class Patches(Discriminator):
    """Four scores an image, each of its own row of pixels; and what a critic of their mean would say."""

    def __init__(self, averaged: bool) -> None:
        super().__init__()
        self.averaged = averaged

    def forward(self, y: Tensor, z: Latent) -> Tensor:
        scores = y.square().sum((1, 3)) + z.pooled.sum(1, keepdim=True).tanh() + z.tokens.sum((1, 2))[:, None].sin()
        return scores.mean(1) if self.averaged else scores


def test_penalties_are_of_the_mean_of_patches(cycle: MakeCycle, model: Model) -> None:
    made, values = cycle(), []
    for averaged in (False, True):
        model.parts["discriminator"] = Patches(averaged)
        values.append(
            [
                float(GradientPenalty(GradientPenaltyConfig(by="image+latent"), Context()).critic(made).detach()),
                float(MatchingAwarePenalty(MatchingAwarePenaltyConfig(), Context()).critic(made).detach()),
                float(WGANGP(WGANGPConfig(), Context()).critic(made).detach()),
            ]
        )
    assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize("by", ["image", "image+latent"])
@pytest.mark.parametrize("at", [("real",), ("generated",), ("real", "generated")])
def test_penalty_equals_finite_differences(cycle: MakeCycle, model: Model, by: str, at: tuple[str, ...]) -> None:
    made = cycle()
    penalty = GradientPenalty(GradientPenaltyConfig(gamma=3.0, at=at, by=by), Context())
    z = made.z_x.detach()
    with torch.no_grad():
        images = [made.y.clone() if where == "real" else made.y_fake.clone() for where in at]
        z = Latent(z.tokens.clone(), z.mask, z.pooled.clone())
        expected = sum(finite(model, image, z, by == "image+latent") for image in images)
    assert float(penalty.critic(made).detach()) == pytest.approx(3.0 / 2 * expected, rel=1e-6)


def test_the_penaltys_own_gradient_equals_finite_differences(cycle: MakeCycle, model: Model) -> None:
    penalty, made, h = GradientPenalty(GradientPenaltyConfig(), Context()), cycle(), 1e-5
    weight: Tensor = model.part("discriminator").first.weight  # type: ignore[assignment, union-attr]
    (gradient,) = torch.autograd.grad(penalty.critic(made), [weight])
    for row, column in ((0, 0), (3, 20), (6, 57)):
        values = []
        for shift in (h, -h):
            with torch.no_grad():
                weight[row, column] += shift
            values.append(float(penalty.critic(made).detach()))
            with torch.no_grad():
                weight[row, column] -= shift
        assert float(gradient[row, column]) == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5, abs=1e-9)


def test_a_critic_that_reads_only_one_form_of_the_latent_is_penalised_too(cycle: MakeCycle, model: Model) -> None:
    class Pooled(Discriminator):
        def forward(self, y: Tensor, z: Latent) -> Tensor:
            return y.flatten(1).sum(1) * 2 + z.pooled.sum(1)

    model.parts["discriminator"] = Pooled()
    value = GradientPenalty(GradientPenaltyConfig(at=("real",), by="image+latent"), Context()).critic(cycle())
    assert float(value) == pytest.approx((48 * 4 + 5) / 2)
