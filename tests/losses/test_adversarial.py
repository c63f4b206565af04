"""Adversarial losses equal their closed forms, and penalties equal finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from ibllm_adversarial.config import GradientPenaltyConfig, RelativisticConfig
from ibllm_adversarial.loss import Relativistic
from ibllm_adversarial.penalty import GradientPenalty
from torch import Tensor

from ibllm_core.cycle import Cycle
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Latent
from ibllm_core.model import Model

MakeCycle = Callable[..., Cycle]


def softplus(value: float) -> float:
    return math.log(1 + math.exp(value))


def scores(model: Model, y: Tensor, z: Latent) -> list[float]:
    return [float(score) for score in model.part("discriminator")(y, z).detach()]


@pytest.mark.parametrize("mismatched", [0.0, 0.5])
def test_relativistic_closed_form(cycle: MakeCycle, model: Model, mismatched: float) -> None:
    made, loss = cycle(), Relativistic(RelativisticConfig(mismatched=mismatched), Context())
    real, fake = scores(model, made.y, made.z_x), scores(model, made.y_fake, made.z_x)
    order = [2, 0, 1]
    z = made.z_x
    wrong = scores(model, made.y, Latent(z.tokens[order], z.mask[order], z.pooled[order]))
    expected = sum(softplus(f - r) + mismatched * softplus(w - r) for r, f, w in zip(real, fake, wrong, strict=True)) / 3
    assert loss.critic(made).item() == pytest.approx(expected)
    assert loss(made).item() == pytest.approx(sum(softplus(r - f) for r, f in zip(real, fake, strict=True)) / 3)


def test_the_critics_side_reaches_only_the_critic(cycle: MakeCycle, model: Model) -> None:
    Relativistic(RelativisticConfig(mismatched=1.0), Context()).critic(cycle()).backward()  # type: ignore[no-untyped-call]
    GradientPenalty(GradientPenaltyConfig(by="image+latent"), Context()).critic(cycle()).backward()  # type: ignore[no-untyped-call]
    touched = {name for name, part in model.parts.items() if any(p.grad is not None for p in part.parameters())}
    assert touched == {"discriminator"}


def test_the_models_side_reaches_the_drawer_through_the_image(cycle: MakeCycle, model: Model) -> None:
    Relativistic(RelativisticConfig(), Context())(cycle()).backward()
    assert model.part("image_decoder").map.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


def finite(model: Model, y: Tensor, z: Latent, by_latent: bool, h: float = 1e-5) -> float:
    """Mean over items of ‖∇C‖² by central differences, number by number."""
    critic = model.part("discriminator")
    places = [y, z.tokens, z.pooled] if by_latent else [y]
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
    class Pooled(torch.nn.Module):
        def forward(self, y: Tensor, z: Latent) -> Tensor:
            return y.flatten(1).sum(1) * 2 + z.pooled.sum(1)

    model.parts["discriminator"] = Pooled()
    value = GradientPenalty(GradientPenaltyConfig(at=("real",), by="image+latent"), Context()).critic(cycle())
    assert float(value) == pytest.approx((48 * 4 + 5) / 2)


def test_players_and_needs() -> None:
    assert RelativisticConfig().players() == ("model", "critic")
    assert GradientPenaltyConfig().players() == ("critic",)
    assert "image_decoder" not in GradientPenaltyConfig(at=("real",)).needs()
    with pytest.raises(ValueError, match="each once"):
        GradientPenaltyConfig(at=())
