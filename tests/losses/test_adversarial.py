"""Adversarial losses equal their closed forms, push scores the right way, and reach who plays them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from ibllm_adversarial.config import (
    FeatureMatchingConfig,
    GradientPenaltyConfig,
    HingeConfig,
    MatchingAwarePenaltyConfig,
    NonSaturatingConfig,
    RelativisticConfig,
    WGANGPConfig,
)
from ibllm_adversarial.feature_matching import feature_matching
from ibllm_adversarial.loss import WGANGP, Hinge, NonSaturating, Relativistic
from ibllm_adversarial.penalty import GradientPenalty, MatchingAwarePenalty
from torch import Tensor, nn

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.image import Discriminator
from ibllm_core.interfaces.latent import Latent
from ibllm_core.interfaces.loss import AdversarialLoss
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model

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


class Dictated(Discriminator):
    """A critic that says what it is told: real, mismatched (b) or (b p); everything else is generated."""

    def __init__(self, made: Cycle, real: Tensor, fake: Tensor, wrong: Tensor) -> None:
        super().__init__()
        self.y, self.z = made.y, made.z_x.pooled.detach()
        self.real, self.fake, self.wrong = real, fake, wrong

    def forward(self, y: Tensor, z: Latent) -> Tensor:
        if y is not self.y:
            return self.fake + 0 * y.flatten(1).sum(1).view(-1, *[1] * (self.fake.dim() - 1))
        return self.real if torch.equal(z.pooled, self.z) else self.wrong


REAL, FAKE, WRONG = [0.5, 2.0, -1.0], [-0.5, -3.0, 0.25], [1.5, -1.5, 0.0]


def dictated(model: Model, made: Cycle, real: list[float] = REAL, fake: list[float] = FAKE, wrong: list[float] = WRONG) -> None:
    model.parts["discriminator"] = Dictated(made, *(torch.tensor(row, dtype=torch.float64) for row in (real, fake, wrong)))


def test_hinge_with_half_mismatched_is_dfgans(cycle: MakeCycle, model: Model) -> None:
    made = cycle()
    dictated(model, made)
    real = (0.5 + 0.0 + 2.0) / 3
    fake = (0.5 + 0.0 + 1.25) / 3
    wrong = (2.5 + 0.0 + 1.0) / 3
    assert Hinge(HingeConfig(), Context()).critic(made).item() == pytest.approx(real + fake)
    assert Hinge(HingeConfig(mismatched=0.5), Context()).critic(made).item() == pytest.approx(real + (fake + wrong) / 2)
    assert Hinge(HingeConfig(mismatched=1.0), Context()).critic(made).item() == pytest.approx(real + wrong)
    assert Hinge(HingeConfig(mismatched=0.5), Context())(made).item() == pytest.approx(-sum(FAKE) / 3)


def test_non_saturating_closed_form(cycle: MakeCycle, model: Model) -> None:
    made = cycle()
    dictated(model, made)

    def sigmoid(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    real = -sum(math.log(sigmoid(s)) for s in REAL) / 3
    fake = -sum(math.log(1 - sigmoid(s)) for s in FAKE) / 3
    wrong = -sum(math.log(1 - sigmoid(s)) for s in WRONG) / 3
    loss = NonSaturating(NonSaturatingConfig(mismatched=0.25), Context())
    assert loss.critic(made).item() == pytest.approx(real + 0.75 * fake + 0.25 * wrong)
    assert loss(made).item() == pytest.approx(-sum(math.log(sigmoid(s)) for s in FAKE) / 3)


def test_wasserstein_closed_form_and_indifference_to_a_shift(cycle: MakeCycle, model: Model) -> None:
    made, loss = cycle(), WGANGP(WGANGPConfig(penalty=0.0, mismatched=0.25), Context())
    dictated(model, made)
    value = loss.critic(made).item()
    assert value == pytest.approx((0.75 * sum(FAKE) + 0.25 * sum(WRONG) - sum(REAL)) / 3)
    assert loss(made).item() == pytest.approx(-sum(FAKE) / 3)
    dictated(model, made, *([s + 7 for s in row] for row in (REAL, FAKE, WRONG)))
    assert loss.critic(made).item() == pytest.approx(value)


def small(kind: type[AdversarialLoss]) -> AdversarialLoss:
    config = {Hinge: HingeConfig, NonSaturating: NonSaturatingConfig, WGANGP: WGANGPConfig, Relativistic: RelativisticConfig}[kind]
    extra = {"penalty": 0.0} if kind is WGANGP else {}
    return kind(config(mismatched=0.5, **extra), Context())  # type: ignore[call-arg, operator]


@pytest.mark.parametrize("shape", [(3,), (3, 4)], ids=["image", "patches"])
@pytest.mark.parametrize("kind", [Hinge, NonSaturating, WGANGP, Relativistic])
def test_each_side_pushes_scores_its_way(cycle: MakeCycle, model: Model, kind: type[AdversarialLoss], shape: tuple[int, ...]) -> None:
    made, loss = cycle(), small(kind)
    real, fake, wrong = (torch.full(shape, value, dtype=torch.float64, requires_grad=True) for value in (0.3, -0.2, 0.1))
    model.parts["discriminator"] = Dictated(made, real, fake, wrong)
    up, down, away = torch.autograd.grad(loss.critic(made), [real, fake, wrong])
    assert (up < 0).all() and (down > 0).all() and (away > 0).all()
    (persuaded,) = torch.autograd.grad(loss(made), [fake])
    assert (persuaded < 0).all()


@pytest.mark.parametrize("kind", [Hinge, NonSaturating, WGANGP, Relativistic])
def test_patches_of_one_score_count_as_that_score(cycle: MakeCycle, model: Model, kind: type[AdversarialLoss]) -> None:
    made, loss = cycle(), small(kind)
    dictated(model, made)
    whole = loss.critic(made).item(), loss(made).item()
    patches = [torch.tensor(row, dtype=torch.float64)[:, None].expand(3, 4) for row in (REAL, FAKE, WRONG)]
    model.parts["discriminator"] = Dictated(made, *patches)
    assert (loss.critic(made).item(), loss(made).item()) == pytest.approx(whole)


class Featured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(48, 6), nn.Linear(6, 4)

    def features(self, y: Tensor, z: Latent) -> tuple[Tensor, ...]:
        first = self.first(y.flatten(1)).tanh()
        return first.view(-1, 2, 3), self.last(first) + z.pooled.sum(1, keepdim=True)


def test_feature_matching_closed_forms(cycle: MakeCycle, model: Model) -> None:
    torch.manual_seed(3)
    model.parts["discriminator"] = critic = Featured().double()
    made = cycle()
    real, fake = ([f.detach().flatten(1).tolist() for f in critic.features(y, made.z_x)] for y in (made.y, made.y_fake))
    by_image, by_mean = 0.0, 0.0
    for r, f in zip(real, fake, strict=True):
        numbers = len(r[0])
        by_image += sum(abs(r[i][k] - f[i][k]) for i in range(3) for k in range(numbers)) / (3 * numbers)
        by_mean += sum((sum(r[i][k] - f[i][k] for i in range(3)) / 3) ** 2 for k in range(numbers)) / numbers
    value = feature_matching(FeatureMatchingConfig(), Context())(made)
    assert value.item() == pytest.approx(by_image)
    assert feature_matching(FeatureMatchingConfig(match="mean"), Context())(made).item() == pytest.approx(by_mean)
    value.backward()
    assert model.part("image_decoder").map.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]
    assert model.part("text_encoder").table.weight.grad is not None  # type: ignore[union-attr] # through the drawn image


@pytest.mark.parametrize("match", ["image", "mean"])
def test_feature_matching_is_zero_for_the_real_image(cycle: MakeCycle, model: Model, match: str) -> None:
    model.parts["discriminator"] = Featured().double()
    made = cycle()
    made.y_fake = made.y.clone()
    assert feature_matching(FeatureMatchingConfig(match=match), Context())(made).item() == 0


@pytest.mark.parametrize(
    "loss",
    [
        Relativistic(RelativisticConfig(mismatched=1.0), Context()),
        Hinge(HingeConfig(mismatched=0.5), Context()),
        NonSaturating(NonSaturatingConfig(mismatched=0.5), Context()),
        WGANGP(WGANGPConfig(mismatched=0.5), Context()),
        GradientPenalty(GradientPenaltyConfig(by="image+latent"), Context()),
        MatchingAwarePenalty(MatchingAwarePenaltyConfig(), Context()),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_the_critics_side_reaches_only_the_critic(cycle: MakeCycle, model: Model, loss: AdversarialLoss) -> None:
    loss.critic(cycle()).backward()  # type: ignore[union-attr]
    touched = {name for name, part in model.parts.items() if any(p.grad is not None for p in part.parameters())}
    assert touched == {"discriminator"}


def test_the_models_side_reaches_the_drawer_through_the_image(cycle: MakeCycle, model: Model) -> None:
    Relativistic(RelativisticConfig(), Context())(cycle()).backward()
    assert model.part("image_decoder").map.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


def test_players_and_needs() -> None:
    assert RelativisticConfig().players() == HingeConfig().players() == ("model", "critic")
    assert GradientPenaltyConfig().players() == MatchingAwarePenaltyConfig().players() == ("critic",)
    assert FeatureMatchingConfig().players() == ("model",)
    assert "discriminator.features" in FeatureMatchingConfig().needs()
    assert "image_decoder" not in GradientPenaltyConfig(at=("real",)).needs() | MatchingAwarePenaltyConfig().needs()
    assert "discriminator.second_order" in WGANGPConfig().needs() - WGANGPConfig(penalty=0.0).needs()
    with pytest.raises(ValueError, match="each once"):
        GradientPenaltyConfig(at=())
    with pytest.raises(ValueError, match="each once"):
        MatchingAwarePenaltyConfig(by=("pooled", "pooled"))
    with pytest.raises(ValueError, match=r"mismatched = 1\.5"):
        HingeConfig(mismatched=1.5)
