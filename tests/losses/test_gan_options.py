"""What keeps a GAN healthy: augmentation with an adaptive probability, minibatch discrimination, an adaptive weight, annealed penalties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from ibllm_adversarial.adaptive import AdaptiveWeight
from ibllm_adversarial.augment import OPERATIONS, Augmentation, color, cutout, translation
from ibllm_adversarial.config import AdaptiveWeightConfig, HingeConfig, NonSaturatingConfig, RelativisticConfig, WGANGPConfig
from ibllm_adversarial.loss import WGANGP, Hinge, NonSaturating, Relativistic
from ibllm_adversarial.minibatch import near
from ibllm_gan.config import DCGANCriticConfig
from ibllm_gan.dcgan import DCGANCritic
from ibllm_testing import LossSuite
from ibllm_testing.inputs import fabricate
from torch import Tensor, nn

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.image import Discriminator
from ibllm_core.interfaces.latent import Latent
from ibllm_core.interfaces.loss import Loss
from ibllm_core.interfaces.noise import Rng
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model
from ibllm_core.model.shares import Shares

MakeCycle = Callable[..., Cycle]
ITEMS = 5


def rng(step: int = 0, count: int = ITEMS) -> Rng:
    return Rng((0, "augment"), np.arange(count), step=step)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(ITEMS, 3, 16, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_colours_are_those_of_the_authors(images: Tensor) -> None:
    """rand_brightness, rand_saturation and rand_contrast of DiffAugment_pytorch.py (Zhao et al. 2020) with the same numbers."""
    b, s, c = (rng().uniform(3, 1, 1, 1)[:, n] for n in range(3))
    x = images + (b - 0.5)
    x = (x - x.mean(dim=1, keepdim=True)) * (s * 2) + x.mean(dim=1, keepdim=True)
    x = (x - x.mean(dim=[1, 2, 3], keepdim=True)) * (c + 0.5) + x.mean(dim=[1, 2, 3], keepdim=True)
    torch.testing.assert_close(color(images, rng()), x, rtol=1e-5, atol=1e-6)


def test_a_shift_moves_whole_pixels_by_an_eighth_at_most(images: Tensor) -> None:
    """Every row of pixels of the result is one of the image, and the middle is only moved."""
    found, seen = translation(images, rng()), set()
    for before, after in zip(images, found, strict=True):
        matches = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(after[:, 2:-2, 2:-2], before[:, 2 - down : 14 - down, 2 - right : 10 - right])
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) > 1


def test_a_square_of_half_the_size_is_cut_out(images: Tensor) -> None:
    """Grey within a rectangle of 8 × 6 pixels or what of it lies in the image, as it was elsewhere."""
    sizes = set()
    for step in range(20):
        for before, after in zip(images, cutout(images, rng(step)), strict=True):
            gone = (after == 0).all(0)
            rows, columns = gone.any(1).nonzero()[:, 0], gone.any(0).nonzero()[:, 0]
            assert gone[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all() and torch.equal(after[:, ~gone], before[:, ~gone])
            sizes.add((len(rows), len(columns)))
    assert max(sizes) == (8, 6) and len(sizes) > 4


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_keyed_item_by_item_and_differentiable_twice(name: str, images: Tensor) -> None:
    operation = OPERATIONS[name]
    whole = operation(images, rng())
    assert torch.equal(whole, operation(images, rng())) and not torch.equal(whole, operation(images, rng(1)))
    torch.testing.assert_close(whole[:2], operation(images[:2], rng(count=2)))
    y = images[:1, :, :6, :6].double().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda y: operation(y, rng(count=1)).square().sum(), y, atol=1e-4)


class Says(Discriminator):
    """Scores the brightness of an image, times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, y: Tensor, z: Latent) -> Tensor:
        scores: Tensor = self.factor * (1.5 + y.mean((1, 2, 3)))
        return scores


ADAPTIVE: dict[str, Any] = {"augment": ("translation",), "augment_target": 0.6, "augment_images": 30}
KINDS: dict[str, Any] = {
    "hinge": (Hinge, HingeConfig),
    "non_saturating": (NonSaturating, NonSaturatingConfig),
    "relativistic": (Relativistic, RelativisticConfig),
    "wgan_gp": (WGANGP, WGANGPConfig),
}


def test_the_probability_rises_where_real_images_are_known_and_falls_where_not(cycle: MakeCycle, model: Model) -> None:
    """By items / images an iteration, from 0, within [0, 1]; what is in force is one iteration behind; held-out losses leave it alone."""
    loss = Hinge(HingeConfig(**ADAPTIVE), Context())
    model.parts["discriminator"] = Says(1.0)
    followed, expected, mean = [], 0.0, 0.0
    for _ in range(16):
        made = cycle()
        loss.critic(made)
        followed.append((float(loss.augmentation.probability), float(loss.augmentation.coming)))
        mean += 0.25 * (1 - mean)  # every score is above 0
        expected = min(1.0, max(0.0, expected + (1 if mean > 0.6 else -1) * len(made) / 30))
        assert followed[-1][1] == pytest.approx(expected, abs=1e-6)
    assert [now for now, _ in followed[1:]] == [coming for _, coming in followed[:-1]]
    model.parts["discriminator"] = Says(-1.0)
    for _ in range(12):
        loss.critic(cycle())
    assert float(loss.augmentation.coming) < 1.0 and float(loss.augmentation.overfitting) < 0
    before = loss.augmentation.state_dict()
    kept = {name: tensor.clone() for name, tensor in before.items()}
    loss.eval().critic(cycle())
    assert kept.keys() == {"probability", "coming", "overfitting"}
    assert all(torch.equal(loss.augmentation.state_dict()[name], tensor) for name, tensor in kept.items())


def test_a_fixed_probability_has_no_state_and_none_does_nothing(cycle: MakeCycle) -> None:
    """Runs of earlier versions have no such numbers."""
    assert not Augmentation(HingeConfig(augment=("cutout",))).state_dict()
    plain, never = Hinge(HingeConfig(), Context()), Hinge(HingeConfig(augment=("cutout",), augment_probability=0.0), Context())
    assert plain.critic(cycle()).item() == never.critic(cycle()).item()
    always = Hinge(HingeConfig(augment=("cutout",)), Context())
    assert plain.critic(cycle()).item() != always.critic(cycle()).item()
    assert plain(cycle()).item() != always(cycle()).item() and always(cycle()).item() == always(cycle()).item()


def stand_ins(minibatch: int = 0) -> tuple[LossSuite, Model]:
    """A model whose critic is a real one, in double precision."""
    suite = LossSuite()
    suite.component, suite.image_shape = "hinge", (3, 16, 16)
    made = suite.model(torch.device("cpu"))
    if minibatch:
        torch.manual_seed(0)
        config = DCGANCriticConfig(channels=(4, 8), width=4, minibatch=minibatch)
        width = made.part("text_encoder").width
        made.parts["discriminator"] = DCGANCritic(config, Context(latent=width, image_shape=(3, 16, 16)))
    return suite, made.double()


def shared(m: Any, count: int) -> list[Any]:
    return [m.take(*rows.tolist()) for rows in np.array_split(np.arange(ITEMS), count)]


@pytest.mark.parametrize("name", KINDS)
def test_micro_batches_change_nothing_of_adaptation_and_minibatch_discrimination(name: str) -> None:
    """Values and gradients of both players, and the coming probability, to 1e-6 (random numbers are float32)."""
    factory, config = KINDS[name]
    found = []
    for count in (1, 2, ITEMS):
        suite, model = stand_ins(minibatch=3)
        m = fabricate(suite.context(), ITEMS)
        m = attrs.evolve(m, numbers=np.arange(ITEMS), y=m.y.double())
        loss = factory(config(mismatched=0.5, **{**ADAPTIVE, "augment_probability": 0.5}), Context()).double()
        values = suite.played(loss, model, shared(m, count))
        values |= {"coming": loss.augmentation.coming, "overfitting": loss.augmentation.overfitting}
        found.append(values)
    assert any("kernel" in name and bool(value.any()) for name, value in found[0].items())
    for other in found[1:]:
        for what, value in found[0].items():
            torch.testing.assert_close(
                other[what].double(), value.double(), rtol=0, atol=1e-6, msg=lambda text, what=what: f"{what}: {text}"
            )


def test_nearness_is_that_of_the_paper() -> None:
    """Σ_{j ≠ i} exp(−‖M_i,k − M_j,k‖₁) over the number of others (Salimans et al. 2016, eq. in section 3.2), item by item."""
    made = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(4, 3)
    for i in range(4):
        for k in range(3):
            expected[i, k] = sum(torch.exp(-(made[i, k] - made[j, k]).abs().sum()) for j in range(4) if j != i) / 3
    torch.testing.assert_close(near(made, made, torch.arange(4)), expected)
    torch.testing.assert_close(near(made[2:], made, torch.tensor([2, 3])), expected[2:])


def test_alike_drawings_are_told_by_minibatch_discrimination() -> None:
    """A critic with it scores the same image otherwise among copies of itself than among others; one without it does not."""
    y = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    _, model = stand_ins(minibatch=3)
    part = model.part("discriminator")
    kernels = part.kernels(y.double())  # type: ignore[operator]
    among = near(kernels[:1], kernels, torch.tensor([0]))
    alike = near(kernels[:1], kernels[:1].expand(4, -1, -1), torch.tensor([0]))
    assert torch.allclose(alike, torch.ones_like(alike)) and bool((among < 1).all())


class Scaled(Loss):
    """A multiple of the drawing's mean square, or its mean."""

    def __init__(self, factor: float, power: int) -> None:
        super().__init__()
        self.factor, self.power = factor, power

    def forward(self, cycle: Cycle) -> Tensor:
        return self.factor * cycle.y_fake.pow(self.power).mean()


@pytest.mark.parametrize("count", [1, 2])
def test_the_adaptive_weight_is_the_ratio_of_gradients_at_the_last_layer(count: int) -> None:
    """λ = ‖∇rec‖ / (‖∇gan‖ + 1e-4) of the whole batch, by autograd itself; the value is λ times the loss, and no gradient goes through λ."""
    suite, model = stand_ins()
    m = fabricate(suite.context(), ITEMS)
    m = attrs.evolve(m, numbers=np.arange(ITEMS), y=m.y.double())
    terms = {"adversarial": Scaled(3.0, 1), "image_nll": Scaled(7.0, 2)}
    whole = Cycle(model, m.batch(), terms)
    matrices = [p for p in model.part("image_decoder").parameters() if p.dim() > 1]
    reached = torch.autograd.grad(whole.value("adversarial"), matrices, retain_graph=True, allow_unused=True)
    layer = [p for p, gradient in zip(matrices, reached, strict=True) if gradient is not None][-1]
    norms = [torch.linalg.vector_norm(torch.autograd.grad(whole.value(name), layer, retain_graph=True)[0]) for name in terms]
    wanted = norms[1] / (norms[0] + 1e-4)
    loss = AdaptiveWeight(AdaptiveWeightConfig(scale=0.8), Context()).double()
    shares = Shares(model, [some.batch() for some in shared(m, count)], {"adaptive": loss, **terms})
    for cycle in shares.cycles():
        value = cycle.value("adaptive")
        torch.testing.assert_close(loss.weight, wanted.detach())
        torch.testing.assert_close(value, cycle.value("image_nll") + 0.8 * wanted.detach() * cycle.value("adversarial"))
    with torch.no_grad():
        torch.testing.assert_close(
            Cycle(model, m.batch(), {"adaptive": loss, **terms}).value("adaptive"),
            whole.value("image_nll") + 0.8 * wanted * whole.value("adversarial"),
        )


def test_a_layer_that_a_loss_does_not_reach_is_named() -> None:
    suite, model = stand_ins()
    m = fabricate(suite.context(), ITEMS)
    loss = AdaptiveWeight(AdaptiveWeightConfig(part="image_encoder"), Context()).double()
    cycle = Cycle(
        model, attrs.evolve(m, y=m.y.double()).batch(), {"adaptive": loss, "adversarial": Scaled(1.0, 1), "image_nll": Scaled(1.0, 2)}
    )
    with pytest.raises(ValueError, match="adversarial and image_nll do not both reach any layer of image_encoder"):
        cycle.value("adaptive")


def test_the_critics_side_is_that_of_the_adversarial_loss(cycle: MakeCycle) -> None:
    made, hinge = cycle(), Hinge(HingeConfig(mismatched=0.5), Context())
    made.losses = {"adversarial": hinge, "image_nll": Scaled(1.0, 2)}
    assert AdaptiveWeight(AdaptiveWeightConfig(), Context()).critic(made) == hinge.critic(made)
    made.losses = {"adversarial": Scaled(1.0, 1), "image_nll": Scaled(1.0, 2)}
    with pytest.raises(ValueError, match="expected an adversarial loss"):
        AdaptiveWeight(AdaptiveWeightConfig(), Context()).critic(made)


@pytest.mark.parametrize("options", [{"augment_target": 0.6}, {"augment_probability": 0.5}])
def test_a_probability_of_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="augment"):
        HingeConfig(**options)
