"""KL, mode seeking, and what an image tokenizer is trained by, against torch's distributions and sums written out."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
import torch
from ibllm_objectives.config import CodecRegularisationConfig, KLConfig, ModeSeekingConfig, ReconstructionConfig
from ibllm_objectives.reconstruction import CodecRegularisation, Reconstruction
from ibllm_objectives.regularisers import KL, ModeSeeking, kl_to_normal
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.image import Reconstruction as Reconstructed
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model

MakeCycle = Callable[..., Cycle]


def gaussian() -> tuple[Tensor, Tensor]:
    """(3 4) means and log-variances."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 4, dtype=torch.float64, generator=generator), torch.randn(3, 4, dtype=torch.float64, generator=generator)


def test_kl_is_torchs() -> None:
    mean, log_variance = gaussian()
    own = Independent(Normal(mean, (log_variance / 2).exp()), 1)
    normal = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    torch.testing.assert_close(kl_to_normal(mean, log_variance), kl_divergence(own, normal))


def test_kl_is_the_mean_of_log_ratios_over_the_drawn_conditions() -> None:
    mean, log_variance = gaussian()
    noise = torch.randn(40_000, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    own, normal = Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)
    drawn = mean + (log_variance / 2).exp() * noise
    ratios = (own.log_prob(drawn) - normal.log_prob(drawn)).sum(-1)
    error = ratios.std(0) / len(noise) ** 0.5
    assert ((ratios.mean(0) - kl_to_normal(mean, log_variance)).abs() < 5 * error).all()


def test_kl_asks_the_decoder_for_its_condition(cycle: MakeCycle, model: Model) -> None:
    decoder, made = model.part("image_decoder"), cycle()
    decoder.gaussian = lambda z: (z.pooled, z.pooled * 0.5)  # type: ignore[assignment]
    value = KL(KLConfig(), Context())(made)
    torch.testing.assert_close(value, kl_to_normal(made.z_x.pooled, made.z_x.pooled * 0.5).mean())
    value.backward()
    assert model.part("text_encoder").table.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


def test_mode_seeking_closed_form(cycle: MakeCycle, model: Model) -> None:
    made = cycle()
    other = made.rng("mode_seeking").normal(2)
    drawn = model.part("image_decoder").draw(made.z_x, other)  # type: ignore[operator]
    images = sum((drawn - made.y_fake).abs().flatten().tolist()) / (3 * 48)
    noises = sum((other - made.noise).abs().flatten().tolist()) / (3 * 2)
    assert noises > 0.1
    found = ModeSeeking(ModeSeekingConfig(epsilon=0.01), Context())(made)
    assert found.item() == pytest.approx(1 / (images / noises + 0.01))


def test_mode_seeking_makes_noise_count(model: Model, batch: Batch) -> None:
    drawer = model.part("image_decoder")
    with torch.no_grad():
        drawer.map.weight[:, -2:] *= 1e-3  # type: ignore[union-attr, index, operator]
    before = drawer.map.weight[:, -2:].abs().mean().item()  # type: ignore[union-attr, index, operator]
    loss = ModeSeeking(ModeSeekingConfig(epsilon=0.1), Context())
    sgd = torch.optim.SGD(drawer.parameters(), 0.01)
    for step in range(20):
        sgd.zero_grad()
        loss(Cycle(model, batch, key=(step,))).backward()
        sgd.step()
    assert drawer.map.weight[:, -2:].abs().mean().item() > 10 * before  # type: ignore[union-attr, index, operator]


class Blur(nn.Module):
    """An image tokenizer that halves every image and asks for a tenth of each number's square."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def forward(self, y: Tensor) -> Reconstructed:
        image = y * self.factor
        return Reconstructed(image, 0.1 * image.square().flatten(1).sum(1))


@pytest.mark.parametrize("unpaired", [False, True])
def test_a_codecs_losses(model: Model, batch: Batch, unpaired: bool) -> None:
    model.parts["image_tokenizer"] = Blur()
    y = batch.y
    assert y is not None
    if unpaired:
        batch, y = attrs.evolve(batch, x=None, y=None, unpaired_y=y * 2), y * 2
    made = Cycle(model, batch)
    numbers = y.flatten().tolist()
    l1, l2 = sum(abs(n) / 2 for n in numbers) / 144, sum(n * n / 4 for n in numbers) / 144
    assert Reconstruction(ReconstructionConfig(kind="l1"), Context())(made).item() == pytest.approx(l1)
    value = Reconstruction(ReconstructionConfig(), Context())(made)
    assert value.item() == pytest.approx(l2)
    assert CodecRegularisation(CodecRegularisationConfig(), Context())(made).item() == pytest.approx(sum(n * n / 40 for n in numbers) / 3)
    value.backward()
    assert model.part("image_tokenizer").factor.grad < 0  # type: ignore[operator]


def test_needs() -> None:
    assert "image_decoder.conditioning_augmentation" in KLConfig().needs()
    assert {"image_decoder.noise", "image_decoder.differentiable_draw"} <= ModeSeekingConfig().needs()
    assert "image_tokenizer.regularisation" in CodecRegularisationConfig().needs() - ReconstructionConfig().needs()
