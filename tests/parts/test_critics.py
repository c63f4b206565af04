"""The critics: receptive fields, projections, spectral norms, starts, second order, features, and that each learns to tell."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import torch
import torch.nn.functional as F
from ibllm_gan.config import (
    DCGANCriticConfig,
    DFGANCriticConfig,
    MatchingAwareCriticConfig,
    PatchGANCriticConfig,
    ProjectionCriticConfig,
    R3GANCriticConfig,
)
from ibllm_gan.critic import TrunkCritic
from ibllm_gan.dcgan import DCGANCritic
from ibllm_gan.dfgan import DFGANCritic
from ibllm_gan.matching_aware import MatchingAwareCritic
from ibllm_gan.patchgan import PatchGANCritic
from ibllm_gan.projection import ProjectionCritic
from ibllm_gan.r3gan import BottleneckBlock, R3GANCritic
from torch import Tensor, nn

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Latent

LATENT = 6
#: Name → factory, config, small options.
CRITICS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "matching_aware": (MatchingAwareCritic, MatchingAwareCriticConfig, {"channels": (8, 16), "width": 16}),
    "dcgan": (DCGANCritic, DCGANCriticConfig, {"channels": (8, 16), "width": 8}),
    "patchgan": (PatchGANCritic, PatchGANCriticConfig, {"channels": (8, 16), "width": 8}),
    "projection": (ProjectionCritic, ProjectionCriticConfig, {"channels": (8, 16)}),
    "dfgan": (DFGANCritic, DFGANCriticConfig, {"channels": 4}),
    "r3gan": (R3GANCritic, R3GANCriticConfig, {"channels": (8, 16), "group": 8, "width": 8}),
}


def critic(name: str, size: int = 16, **options: Any) -> Any:
    factory, config, small = CRITICS[name]
    torch.manual_seed(0)
    return factory(config(**{**small, **options}), Context(latent=LATENT, image_shape=(3, size, size)))


def awake(part: nn.Module) -> nn.Module:
    """With gains and last convolutions that start at 0 moved off it, as training does at once."""
    with torch.no_grad():
        for parameter in part.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    return part


def image(b: int, size: int = 16, seed: int = 3) -> Tensor:
    return torch.rand(b, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def latent(b: int, seed: int = 2) -> Latent:
    tokens = torch.randn(b, 4, LATENT, generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(b, 4, dtype=torch.bool)
    mask[0, 2:] = False
    return Latent(tokens, mask, tokens.mean(1))


@pytest.mark.parametrize("name", CRITICS)
def test_image_and_text_count(name: str) -> None:
    part, y, z = awake(critic(name)), image(2), latent(2)
    scores = part(y, z)
    assert scores.shape[0] == 2
    assert bool((part(image(2, seed=4), z) != scores).all())
    assert bool((part(y, z.roll()) != scores).any(-1).all())


@pytest.mark.parametrize("name", CRITICS)
def test_features_are_what_the_score_is_made_of(name: str) -> None:
    part, y, z = critic(name).eval(), image(2), latent(2)
    found = part.features(y, z)
    assert isinstance(part, TrunkCritic) and len(found) == len(part.stages)
    torch.testing.assert_close(part.judge(found[-1], z), part(y, z))
    x = y
    for stage, features in zip(part.stages, found, strict=True):
        x = stage(x)
        torch.testing.assert_close(features, x)


@pytest.mark.parametrize("name", CRITICS)
def test_the_penaltys_gradient_is_that_of_finite_differences(name: str) -> None:
    part = awake(critic(name)).double().eval()
    y, z = image(2).double(), latent(2)
    tokens, pooled = z.tokens.double(), z.pooled.double()

    def penalty() -> Tensor:
        wanted = [t.clone().requires_grad_() for t in (y, tokens, pooled)]
        scores = part(wanted[0], Latent(wanted[1], z.mask, wanted[2]))
        found = torch.autograd.grad(scores.sum(), wanted, create_graph=True, allow_unused=True)
        return torch.stack([g.square().sum() for g in found if g is not None]).sum()

    size, parameters = 1e-8, [p for p in part.parameters() if p.requires_grad]
    directions = [torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(5)) for p in parameters]
    gradients = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    found = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True) if g is not None)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            torch._foreach_add_(parameters, directions, alpha=sign * size)
        values.append(float(penalty().detach()))
        with torch.no_grad():
            torch._foreach_add_(parameters, directions, alpha=-sign * size)
    assert found == pytest.approx((values[0] - values[1]) / (2 * size), rel=1e-4)


@pytest.mark.parametrize("name", CRITICS)
def test_an_image_too_small_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="1×1 pixels"):
        critic(name, 1)


@pytest.mark.parametrize("name", CRITICS)
def test_it_learns_which_image_belongs_to_which_text(name: str) -> None:
    part = critic(name)
    y, z = image(1).new_tensor([0.7, -0.7])[:, None, None, None].expand(-1, 3, 16, 16) * 1.0, latent(2)
    optimizer = torch.optim.Adam(part.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        (F.relu(1 - part(y, z)).mean() + F.relu(1 + part(y, z.roll())).mean()).backward()
        optimizer.step()
    right, wrong = part(y, z).reshape(2, -1).mean(1), part(y, z.roll()).reshape(2, -1).mean(1)
    assert bool((right > 0.5).all()) and bool((wrong < -0.5).all()), (right, wrong)


# PatchGAN


def test_a_patch_is_scored_by_its_own_pixels() -> None:
    # 4×4 convolutions with strides 2, 1 and 1: 16 pixels, at steps of 2.
    part, z = critic("patchgan", 32), latent(1)
    y = image(1, 32).requires_grad_()
    scores = part(y, z)[0]
    rows = int(len(scores) ** 0.5)
    assert rows**2 == len(scores) == 14**2
    for row, column in ((0, 0), (5, 8), (13, 13)):
        (gradient,) = torch.autograd.grad(scores[row * rows + column], y, retain_graph=True)
        seen = gradient[0].abs().sum(0) > 0
        for start, axis in ((row, 1), (column, 0)):
            pixels = seen.any(axis).nonzero().flatten()
            # Padding: one pixel of the image, one place (two pixels) each of the two maps.
            first, last = max(0, 2 * start - 5), min(31, 2 * start - 5 + 15)
            assert (int(pixels.min()), int(pixels.max())) == (first, last)


@pytest.mark.parametrize(("stages", "wide"), [(3, 34), (4, 70)])
def test_a_patch_is_as_wide_as_the_options_say(stages: int, wide: int) -> None:
    part, z = critic("patchgan", 128, channels=(4,) * stages), latent(1)
    y = image(1, 128).requires_grad_()
    scores = part(y, z)[0]
    rows = int(len(scores) ** 0.5)
    (gradient,) = torch.autograd.grad(scores[rows // 2 * rows + rows // 2], y)
    assert int((gradient[0].abs().sum((0, 1)) > 0).sum()) == wide
    assert f"{wide} with {stages}" in attrs.fields_dict(PatchGANCriticConfig)["channels"].metadata["help"].replace(" pixels wide", "")


# Projection


@pytest.mark.parametrize("spectral_norm", [True, False])
def test_texts_differ_by_an_inner_product_with_what_was_seen(spectral_norm: bool) -> None:
    part = critic("projection", spectral_norm=spectral_norm).eval()
    y, z, other = image(2), latent(2), latent(2, seed=9)
    seen = F.relu(part.features(y, z)[-1]).sum((2, 3))
    wanted = ((z.pooled - other.pooled) @ part.project.weight.T * seen).sum(1)
    torch.testing.assert_close(part(y, z) - part(y, other), wanted, rtol=1e-4, atol=1e-5)


def largest(part: nn.Module) -> list[float]:
    layers = [m for m in part.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return [float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) for layer in layers]


def test_spectral_norms_are_one() -> None:
    part, y, z = critic("projection"), image(2), latent(2)
    assert max(largest(critic("projection", spectral_norm=False))) > 1.2
    assert all(0.95 < norm < 1.1 for norm in largest(part.eval())), "after the first rounds"
    optimizer = torch.optim.Adam(part.train().parameters(), lr=2e-4)
    for _ in range(10):
        optimizer.zero_grad()
        part(y, z).mean().backward()
        optimizer.step()
    assert max(largest(part.eval())) < 1.1, "the vectors follow the weights"
    part.train()
    for _ in range(100):
        part(y, z)
    assert all(norm == pytest.approx(1, abs=1e-3) for norm in largest(part.eval()))


def test_a_spectral_norm_changes_in_training_only_and_by_the_weights_alone() -> None:
    part, z = critic("projection"), latent(2)
    before = {name: buffer.clone() for name, buffer in part.named_buffers()}
    part.eval()(image(2), z)
    assert all(torch.equal(buffer, before[name]) for name, buffer in part.named_buffers())
    again = critic("projection")
    part.train()(image(2), z)
    again.train()(image(1, seed=8), latent(1))
    assert not torch.equal(part.project.parametrizations.weight[0].u, before["project.parametrizations.weight.0.u"])
    for (name, one), (_, other) in zip(part.named_buffers(), again.named_buffers(), strict=True):
        assert torch.equal(one, other), name


def test_the_spectral_norms_gradient_is_the_published_one() -> None:
    part = critic("projection").double().eval()
    normed = part.score.parametrizations.weight[0]
    weight = part.score.parametrizations.weight.original.detach().clone().requires_grad_()
    # One row: σ is its length, so the gradient of the sum of w/‖w‖ is Σ/‖w‖ less its share along w.
    (found,) = torch.autograd.grad(normed(weight).sum(), weight)
    length = weight.detach().norm()
    unit = weight.detach() / length
    torch.testing.assert_close(found, (torch.ones_like(unit) - unit.sum() * unit) / length)


# R3GAN


def test_the_network_begins_as_its_shortcuts() -> None:
    part = critic("r3gan")
    blocks = [module for module in part.modules() if isinstance(module, BottleneckBlock)]
    assert len(blocks) == 2
    x = torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(blocks[0](x), x)
    # Fix-up: with L blocks of m = 3 convolutions, weights are scaled by L^(−1/(2m − 2)).
    gain = (2 / (1 + 0.2**2)) ** 0.5 * len(blocks) ** (-1 / 4)
    wide = BottleneckBlock(256, R3GANCriticConfig(channels=(8, 16), group=8))
    for layer in (wide.enter, wide.middle):
        assert float(layer.weight.detach().std()) == pytest.approx(gain / layer.weight[0].numel() ** 0.5, rel=0.02)
    assert wide.middle.groups == 512 // 8


def test_halving_by_means_is_bilinear_resampling() -> None:
    x = image(1)
    torch.testing.assert_close(F.avg_pool2d(x, 2), F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False))


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="group = 16: expected a divisor of expansion × channels, and 24 is none"):
        R3GANCriticConfig(channels=(12,))
    with pytest.raises(ValueError, match=r"channels = \[8\]: expected at least 2 stages"):
        PatchGANCriticConfig(channels=(8,))
    with pytest.raises(ValueError, match=r"channels = \[\]: expected at least one stage"):
        ProjectionCriticConfig(channels=())
    with pytest.raises(ValueError, match=r"channels = \[8, 8, 8, 8, 8\]: expected fewer stages for an image of 16×16 pixels"):
        critic("dcgan", channels=(8,) * 5)


@pytest.mark.parametrize("name", ["dcgan", "patchgan", "matching_aware", "dfgan", "r3gan"])
def test_any_critic_may_be_spectrally_normalised(name: str) -> None:
    """Every weight's largest singular value is 1 then, to the power iteration's accuracy, but of those that start at 0."""
    part = critic(name, spectral_norm=True).eval()
    layers = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    norms = [float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) for layer in layers if bool(layer.weight.any())]
    assert len(norms) > 2 and all(0.9 <= norm <= 1.3 for norm in norms), norms
    part.train()
    scores = part(image(2), latent(2))
    scores.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in part.parameters() if p.grad is not None)
