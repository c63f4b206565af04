"""The adversarial parts: the cross-attention generator and the matching-aware critic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ibllm_gan.config import CrossAttentionGeneratorConfig, MatchingAwareCriticConfig
from ibllm_gan.cross_attention import CrossAttentionGenerator
from ibllm_gan.matching_aware import MatchingAwareCritic
from torch import Tensor

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Latent
from ibllm_core.interfaces.noise import Rng

LATENT = 12


def generator(shape: tuple[int, int, int] = (3, 32, 32), **options: object) -> CrossAttentionGenerator:
    torch.manual_seed(0)
    return CrossAttentionGenerator(CrossAttentionGeneratorConfig(**options), Context(width=16, latent=LATENT, image_shape=shape))


def critic(shape: tuple[int, int, int] = (3, 32, 32)) -> MatchingAwareCritic:
    torch.manual_seed(0)
    return MatchingAwareCritic(MatchingAwareCriticConfig(channels=(8, 16), width=16), Context(latent=LATENT, image_shape=shape))


def latent(b: int, n: int = 5) -> Latent:
    made = torch.randn(b, n, LATENT, generator=torch.Generator().manual_seed(2))
    mask = torch.ones(b, n, dtype=torch.bool)
    mask[0, n - 2 :] = False
    return Latent(made, mask, made.mean(1))


def padded(z: Latent, value: float = 9.0) -> Latent:
    """The same latent with other numbers at its masked places, and more of them."""
    tokens = torch.where(z.mask[..., None], z.tokens, value)
    return Latent(torch.nn.functional.pad(tokens, (0, 0, 0, 3), value=value), torch.nn.functional.pad(z.mask, (0, 3)), z.pooled)


def rng(b: int) -> Rng:
    return Rng((0, "draw"), np.arange(b))


def image(b: int, seed: int = 3) -> Tensor:
    return torch.rand(b, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("b", [1, 3])
@pytest.mark.parametrize(("shape", "patch"), [((3, 32, 32), 4), ((1, 16, 24), 8)])
def test_generator_shapes(b: int, shape: tuple[int, int, int], patch: int) -> None:
    part, z = generator(shape, patch=patch), latent(b)
    drawn = part.sample(z, rng(b))
    assert drawn.shape == (b, *shape)
    assert float(drawn.detach().abs().max()) <= 1
    assert part.nll(torch.zeros(b, *shape), z, rng(b)).shape == (b,)


def test_generator_padding_changes_nothing() -> None:
    part, z = generator(), latent(2)
    torch.testing.assert_close(part.sample(padded(z), rng(2)), part.sample(z, rng(2)), atol=1e-6, rtol=0)


def test_patches_lie_where_their_queries_say() -> None:
    part, z = generator((3, 16, 32), patch=8, joins=0), latent(1)
    before = part.sample(z, rng(1))
    with torch.no_grad():
        part.form.queries[1 * 4 + 2] *= -1  # second row of patches, third column
    moved = (part.sample(z, rng(1)) - before).detach().abs().amax((0, 1)) > 1e-7
    rows, columns = moved.nonzero(as_tuple=True)
    # The last convolution reaches one pixel beyond the patch: into pixels whose own colours it mixes.
    assert 7 <= int(rows.min()) <= 8 and int(rows.max()) == 15
    assert 15 <= int(columns.min()) <= 16 and 23 <= int(columns.max()) <= 24


def test_noise_varies_the_image_unless_there_is_none() -> None:
    z = latent(1)
    other = Rng((1, "draw"), np.arange(1))
    assert not torch.equal(generator().sample(z, rng(1)), generator().sample(z, other))
    assert torch.equal(generator(noise=0).sample(z, rng(1)), generator(noise=0).sample(z, other))
    assert "noise" not in CrossAttentionGeneratorConfig(noise=0).provides()


@pytest.mark.parametrize(("exponent", "expected"), [(1.0, 0.5 / 0.1), (2.0, 0.25 / 0.02), (1.5, 5**1.5 / 1.5)])
def test_likelihood_is_summed_over_the_image(exponent: float, expected: float) -> None:
    part = generator(exponent=exponent, scale=0.1)
    y = image(2)
    torch.testing.assert_close(part.likelihood(y, y + 0.5), torch.full((2,), expected * 3 * 32 * 32), rtol=1e-5, atol=0)


def test_focus_weighs_what_stands_out() -> None:
    part = generator(focus=4.0)
    y = torch.full((1, 3, 32, 32), -0.8)
    y[:, :, 4:10, 4:10] = 0.9
    off_object, off_ground = y.clone(), y.clone()
    off_object[:, :, 6, 6] -= 0.5
    off_ground[:, :, 25, 25] -= 0.5
    assert float(part.likelihood(y, off_object) / part.likelihood(y, off_ground)) == pytest.approx(5, rel=1e-4)
    # Weights have mean 1, so an error that is everywhere alike counts the same with and without focus.
    torch.testing.assert_close(part.likelihood(y, y + 0.3), generator().likelihood(y, y + 0.3), rtol=1e-4, atol=0)


def test_every_parameter_of_the_generator_learns() -> None:
    part, z = generator(), latent(2)
    z.tokens.requires_grad_()
    part.nll(image(2), z, rng(2)).sum().backward()
    assert z.tokens.grad is not None and bool(z.tokens.grad[1].abs().sum(-1).all())
    for name, parameter in part.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name


@pytest.mark.parametrize("b", [1, 3])
def test_critic_shapes(b: int) -> None:
    assert critic()(image(b), latent(b)).shape == (b,)
    assert critic((3, 16, 24))(torch.zeros(b, 3, 16, 24), latent(b)).shape == (b,)


def test_critic_padding_changes_nothing() -> None:
    part, z = critic(), latent(2)
    torch.testing.assert_close(part(image(2), padded(z)), part(image(2), z), atol=1e-6, rtol=0)


def test_critic_sees_image_and_text() -> None:
    part, z = critic(), latent(2)
    scores = part(image(2), z)
    assert bool((part(image(2, seed=4), z) != scores).all())
    assert bool((part(image(2), z.roll()) != scores).all())


def test_critic_is_twice_differentiable_by_image_and_text() -> None:
    part, y, z = critic(), image(2).requires_grad_(), latent(2)
    z.tokens.requires_grad_()
    by_image, by_text = torch.autograd.grad(part(y, z).sum(), (y, z.tokens), create_graph=True)
    (by_image.square().sum() + by_text.square().sum()).backward()
    for name, parameter in part.named_parameters():
        # The critic is linear between the kinks of its units, so shifts change no gradient.
        if not name.endswith("bias"):
            assert parameter.grad is not None and bool(parameter.grad.any()), name


def test_parts_walk_on_meta() -> None:
    with torch.device("meta"):
        part, judge = generator(focus=1.0), critic()
        z = Latent(torch.zeros(2, 5, LATENT), torch.ones(2, 5, dtype=torch.bool), torch.zeros(2, LATENT))
        y = torch.zeros(2, 3, 32, 32)
        drawn = part.draw(z, torch.zeros(2, part.noise_width))
        assert part.likelihood(y, drawn).shape == (2,)
        assert judge(drawn, z).shape == (2,)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="heads = 5: expected a divisor of width = 16"):
        generator(heads=5)
    with pytest.raises(ValueError, match="heads = 5: expected a divisor of width = 12"):
        CrossAttentionGeneratorConfig(width=12, heads=5)
    with pytest.raises(ValueError, match="patch = 5: expected a divisor of the image's height 32 and width 32"):
        generator(patch=5)
    with pytest.raises(ValueError, match="at least one stage"):
        MatchingAwareCriticConfig(channels=())


@pytest.mark.parametrize("exponent", [1.0, 1.5, 2.0])
def test_a_perfect_image_has_a_finite_gradient(exponent: float) -> None:
    part, y = generator(exponent=exponent), image(1)
    drawn = y.clone().requires_grad_()
    part.likelihood(y, drawn).sum().backward()
    assert drawn.grad is not None and not drawn.grad.any()
