"""Likelihoods around a drawn image are distributions: of the densities' own formulas, of probabilities that sum to 1."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from ibllm_objectives.config import ImageNLLConfig
from ibllm_objectives.likelihood import ImageNLL
from ibllm_objectives.pixel_likelihood import LogisticMixture, gaussian_nll, laplace_nll, log_discretised_logistic
from torch import Tensor

from ibllm_core.interfaces.context import Context
from ibllm_core.model.cycle import Cycle

MakeCycle = Callable[..., Cycle]
LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1


def images(*shape: int, seed: int) -> Tensor:
    """Random levels as floats in [−1, 1], the two ends among them."""
    levels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).double()
    levels.view(-1)[0], levels.view(-1)[1] = 0, 255
    return levels / 127.5 - 1


@pytest.mark.parametrize(
    ("kind", "nll", "distribution"),
    [("l1", laplace_nll, torch.distributions.Laplace), ("l2", gaussian_nll, torch.distributions.Normal)],
)
def test_densities_are_those_of_torch(cycle: MakeCycle, kind: str, nll: Callable[..., Tensor], distribution: type) -> None:
    y, drawn = images(2, 3, 4, 5, seed=0), images(2, 3, 4, 5, seed=1)
    expected = -distribution(drawn, 0.3).log_prob(y).flatten(1).sum(1)
    torch.testing.assert_close(nll(y, drawn, 0.3), expected)
    made = cycle()
    expected = -distribution(made.y_fake, 0.05).log_prob(made.y).sum() / (3 * 48)
    torch.testing.assert_close(ImageNLL(ImageNLLConfig(kind=kind, scale=0.05), Context())(made), expected)


@pytest.mark.parametrize("mean", [-1.7, -1.0, -0.2, 0.73, 1.0, 40.0])
@pytest.mark.parametrize("log_scale", [-7.0, -3.0, 0.0, 2.0])
def test_a_logistics_levels_sum_to_one(mean: float, log_scale: float) -> None:
    log_p = log_discretised_logistic(LEVELS, torch.tensor(mean, dtype=torch.float64), torch.tensor(log_scale, dtype=torch.float64))
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-12)
    assert log_p.isfinite().all()


@pytest.mark.parametrize("level", [0, 1, 100, 254, 255])
def test_a_levels_probability_is_the_difference_of_two_sigmoids(level: int) -> None:
    mean, scale = 0.4, 0.3

    def below(edge: float) -> float:
        return 1 / (1 + math.exp(-(edge - mean) / scale))

    low = 0.0 if level == 0 else below((level - 0.5) / 127.5 - 1)
    high = 1.0 if level == 255 else below((level + 0.5) / 127.5 - 1)
    found = log_discretised_logistic(
        LEVELS[level], torch.tensor(mean, dtype=torch.float64), torch.tensor(math.log(scale), dtype=torch.float64)
    )
    assert math.exp(float(found)) == pytest.approx(high - low, rel=1e-9)


def test_a_level_far_from_the_mean_has_a_gradient() -> None:
    mean = torch.tensor(-1.0, requires_grad=True)
    log_p = log_discretised_logistic(torch.tensor(0.9), mean, torch.tensor(-7.0))
    (gradient,) = torch.autograd.grad(log_p, mean)
    assert float(gradient) == pytest.approx(math.exp(7), rel=1e-3)  # in the tail of a logistic: 1 / s


def mixture(components: int = 3) -> LogisticMixture:
    torch.manual_seed(0)
    made = LogisticMixture(3, components).double()
    with torch.no_grad():
        made.head.weight.normal_()  # so that the pixels' mixtures differ, also in their weights
    return made


def test_a_mixtures_levels_sum_to_one_at_every_pixel() -> None:
    head, drawn = mixture(), images(1, 3, 2, 2, seed=2)
    total = torch.zeros(3, 2, 2, dtype=torch.float64)
    log_weights, means, log_scales = head(drawn)
    for level in LEVELS:
        total += (log_weights + log_discretised_logistic(level, means, log_scales)).exp().sum(1)[0].detach()
    torch.testing.assert_close(total, torch.ones_like(total))


def test_a_mixtures_nll_equals_a_brute_force() -> None:
    head, y, drawn = mixture(), images(2, 3, 2, 2, seed=3), images(2, 3, 2, 2, seed=4)
    weight, bias = head.head.weight[:, :, 0, 0].detach(), head.head.bias.detach()  # type: ignore[union-attr]
    expected = [0.0, 0.0]
    for b in range(2):
        for i, j, c in ((i, j, c) for i in range(2) for j in range(2) for c in range(3)):
            read = (weight @ drawn[b, :, i, j] + bias).tolist()
            logits, offsets, log_scales = ([read[which * 9 + k * 3 + c] for k in range(3)] for which in range(3))
            p = 0.0
            for k in range(3):
                share = math.exp(logits[k]) / sum(map(math.exp, logits))
                mean, s = float(drawn[b, c, i, j]) + offsets[k], math.exp(max(log_scales[k], -7))
                value = float(y[b, c, i, j])
                low = 0.0 if value == -1 else 1 / (1 + math.exp(-(value - 1 / 255 - mean) / s))
                high = 1.0 if value == 1 else 1 / (1 + math.exp(-(value + 1 / 255 - mean) / s))
                p += share * (high - low)
            expected[b] -= math.log(p)
    assert head.nll(y, drawn).tolist() == pytest.approx(expected)


def test_a_mixture_learns_an_image_that_is_one_of_two() -> None:
    """Two colours, each half the time, around a drawn grey: ln 2 nats a number; no single logistic comes near."""
    found = {}
    y = torch.where(torch.arange(16).view(16, 1, 1, 1) % 2 == 0, LEVELS[70].float(), LEVELS[190].float()).expand(16, 3, 2, 2)
    for components in (1, 2):
        torch.manual_seed(0)
        loss = LogisticMixture(3, components)
        adam = torch.optim.Adam(loss.parameters(), 0.05)
        for _ in range(300):
            adam.zero_grad()
            value = loss.nll(y, torch.zeros_like(y)).mean() / 12
            value.backward()
            adam.step()
        found[components] = float(value.detach())
    assert found[2] < math.log(2) + 0.3 and found[1] > math.log(2) + 2


def test_the_mixture_belongs_to_the_loss_and_reaches_the_drawer(cycle: MakeCycle) -> None:
    loss = ImageNLL(ImageNLLConfig(kind="logistic_mixture", components=2, per="sample"), Context(image_shape=(3, 4, 4))).double()
    made = cycle()
    value = loss(made)
    assert loss.mixture is not None
    torch.testing.assert_close(value, loss.mixture.nll(made.y, made.y_fake).mean())
    value.backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())
    assert made.model.part("image_decoder").map.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


def test_needs_follow_the_kind() -> None:
    assert "image_decoder.differentiable_draw" not in ImageNLLConfig().needs()
    assert all("image_decoder.differentiable_draw" in ImageNLLConfig(kind=kind).needs() for kind in ("l1", "l2", "logistic_mixture"))
