"""DCGAN's, DF-GAN's and AttnGAN's generators: what is special to each, and that each learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ibllm_gan.attngan import AttnGANGenerator, WordAttention, glu
from ibllm_gan.config import AttnGANGeneratorConfig, DCGANGeneratorConfig, DFGANGeneratorConfig
from ibllm_gan.dcgan import DCGANGenerator
from ibllm_gan.dfgan import Affine, DFGANGenerator
from ibllm_gan.generator import channels_by_size, smallest_grid
from torch import Tensor

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.image import DrawingDecoder
from ibllm_core.interfaces.latent import Latent
from ibllm_core.interfaces.noise import Rng

LATENT = 12
#: Name → factory, config, small options.
GENERATORS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "dcgan": (DCGANGenerator, DCGANGeneratorConfig, {"channels": (16, 16), "groups": 4}),
    "dfgan": (DFGANGenerator, DFGANGeneratorConfig, {"channels": 4, "hidden": 16}),
    "attngan": (AttnGANGenerator, AttnGANGeneratorConfig, {"channels": 16, "groups": 4}),
}


def generator(name: str, shape: tuple[int, int, int] = (3, 16, 16), **options: Any) -> Any:
    factory, config, small = GENERATORS[name]
    torch.manual_seed(0)
    return factory(config(**{**small, **options}), Context(latent=LATENT, image_shape=shape))


def latent(b: int, n: int = 5, seed: int = 2) -> Latent:
    tokens = torch.randn(b, n, LATENT, generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(b, n, dtype=torch.bool)
    mask[0, n - 2 :] = False
    return Latent(tokens, mask, tokens.mean(1))


def with_pooled(z: Latent, pooled: Tensor) -> Latent:
    return Latent(z.tokens, z.mask, pooled)


def rng(b: int, word: str = "draw") -> Rng:
    return Rng((0, word), np.arange(b))


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("options", [{}, {"noise": 0}, {"augmentation": 6}, {"noise": 0, "augmentation": 6}])
def test_noise_is_that_of_image_and_condition(name: str, options: dict[str, Any]) -> None:
    part, z = generator(name, **options), latent(2)
    drawn = bool(options.get("augmentation", 0))
    assert part.noise_width == options.get("noise", 16) + options.get("augmentation", 0)
    provided = part.options.provides()
    assert ("conditioning_augmentation" in provided) == drawn
    assert ("noise" in provided) == (part.noise_width > 0) == (not torch.equal(part.sample(z, rng(2)), part.sample(z, rng(2, "other"))))


@pytest.mark.parametrize("name", GENERATORS)
def test_conditioning_augmentation_has_the_declared_mean_and_deviation(name: str) -> None:
    k, b = 3, 20_000
    part, z = generator(name, augmentation=k), latent(1)
    mean, log_variance = part.gaussian(z)
    many = with_pooled(Latent(z.tokens.expand(b, -1, -1), z.mask.expand(b, -1), z.pooled), z.pooled.expand(b, -1))
    noise = part.noise(z, rng(b))
    rest, given = part.condition(many, noise)
    condition = given[:, -k:]
    deviation = (0.5 * log_variance[0]).exp()
    # The standard errors are σ/√b and about σ/√(2b); five of them.
    assert bool(((condition.mean(0) - mean[0]).abs() < 5 * deviation / b**0.5).all())
    assert bool(((condition.std(0) - deviation).abs() < 5 * deviation / (2 * b) ** 0.5).all())
    # What is left of the noise is the image's own, not the condition's again.
    torch.testing.assert_close(rest, part.options.noise_scale * noise[:, k:])
    correlation = np.corrcoef(np.concatenate([condition.detach().numpy(), rest.numpy()], 1).T)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 5 / b**0.5 + 0.02


@pytest.mark.parametrize("name", GENERATORS)
def test_without_augmentation_there_is_no_gaussian(name: str) -> None:
    with pytest.raises(NotImplementedError):
        generator(name).gaussian(latent(1))


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 16, 24), (3, 24, 16)])
def test_other_shapes(name: str, shape: tuple[int, int, int]) -> None:
    drawn = generator(name, shape).sample(latent(1), rng(1))
    assert drawn.shape == (1, *shape)
    assert float(drawn.detach().abs().max()) <= 1


@pytest.mark.parametrize("name", GENERATORS)
def test_each_shares_the_likelihood(name: str) -> None:
    part = generator(name, exponent=1.0, scale=0.5)
    y = torch.zeros(1, 3, 16, 16)
    assert float(part.likelihood(y, y + 0.25)) == pytest.approx(0.5 * 3 * 16 * 16)


@pytest.mark.parametrize("name", GENERATORS)
def test_an_images_likelihood_does_not_depend_on_the_batch_in_training(name: str) -> None:
    part, z, y = generator(name).train(), latent(3), torch.zeros(3, 3, 16, 16)
    whole = part.nll(y, z, rng(3))
    alone = part.nll(y[:1], Latent(z.tokens[:1], z.mask[:1], z.pooled[:1]), rng(1))
    torch.testing.assert_close(whole[:1], alone, rtol=1e-5, atol=1e-4)


# DF-GAN


def test_affine_is_the_published_formula() -> None:
    torch.manual_seed(0)
    part, x, given = Affine(LATENT, 8, 6), torch.randn(2, 6, 3, 3), torch.randn(2, LATENT)
    weights, biases = part.hidden.weight.chunk(2), part.hidden.bias.chunk(2)
    gamma, beta = (
        F.linear(F.relu(F.linear(given, w, b)), last.weight, last.bias)
        for w, b, last in zip(weights, biases, (part.scale, part.shift), strict=True)
    )
    wanted = torch.empty_like(x)
    for item in range(2):
        for channel in range(6):
            wanted[item, channel] = gamma[item, channel] * x[item, channel] + beta[item, channel]
    torch.testing.assert_close(part(x, given), torch.where(wanted > 0, wanted, 0.2 * wanted))


def test_the_text_modulates_every_block() -> None:
    part = generator("dfgan", (3, 32, 32), noise=0)
    x = torch.randn(1, 32, 4, 4)
    one, other = latent(1).pooled, latent(1, seed=7).pooled
    assert len(part.blocks) == 3
    for block in part.blocks:
        assert block(x, one).shape[2] == 2 * x.shape[2]
        assert not torch.allclose(block(x, one), block(x, other), atol=1e-3)
        # Each of a block's four affine maps by itself too.
        for affine in (*block.first, *block.second):
            changed = [part(x, z) for part, z in ((_only(block, affine), one), (_only(block, affine), other))]
            assert not torch.allclose(*changed, atol=1e-4)
        x = block(x, one).detach()


def _only(block: Any, affine: Affine) -> Any:
    """The block with the text kept constant for all of its affine maps but one."""

    def forward(x: Tensor, given: Tensor) -> Tensor:
        x = h = F.interpolate(x, scale_factor=2.0)
        for affines, convolve in zip((block.first, block.second), block.convolve, strict=True):
            for one in affines:
                h = one(h, given if one is affine else torch.ones_like(given))
            h = convolve(h)
        return block.shortcut(x) + h

    return forward


def test_sizes_of_the_published_generator() -> None:
    # n_f·(8, 8, 4, 2, 1) from 4×4 to 64×64, n_f·(8, 8, 8, 8, 4, 2, 1) to 256×256: the code's get_G_in_out_chs.
    assert (smallest_grid((3, 64, 64)), channels_by_size(32, 4)[::-1]) == ((4, 4, 4), [256, 256, 128, 64, 32])
    assert (smallest_grid((3, 256, 256)), channels_by_size(32, 6)[::-1]) == ((6, 4, 4), [256, 256, 256, 256, 128, 64, 32])
    assert smallest_grid((3, 32, 48)) == (3, 4, 6)
    assert smallest_grid((3, 28, 28)) == (2, 7, 7)
    with pytest.raises(ValueError, match="9×9 pixels: expected even sizes"):
        generator("dfgan", (3, 9, 9))


# AttnGAN


def test_word_attention_is_the_published_formula_but_for_its_scale() -> None:
    torch.manual_seed(0)
    part, x, z = WordAttention(LATENT, 6), torch.randn(1, 6, 2, 3), latent(1)
    words = (z.tokens[0, :3] @ part.words.weight.T).detach()  # two of five are masked
    found = part(x, z)[0]
    for row in range(2):
        for column in range(3):
            scores = torch.tensor([float(x[0, :, row, column] @ word) / 6**0.5 for word in words])
            torch.testing.assert_close(found[:, row, column], scores.softmax(0) @ words, atol=1e-6, rtol=1e-5)


def test_places_see_the_words_that_count_and_no_other() -> None:
    part, z = generator("attngan"), latent(1)
    drawn = part.sample(z, rng(1))
    for word, seen in ((0, True), (1, True), (2, True), (3, False), (4, False)):
        tokens = z.tokens.clone()
        tokens[0, word] += 3
        moved = float((part.sample(Latent(tokens, z.mask, z.pooled), rng(1)) - drawn).detach().abs().max())
        assert (moved > 1e-3) if seen else (moved == 0), word


def test_each_stage_attends_to_the_words_before_it_doubles() -> None:
    part, z = generator("attngan", (3, 32, 32), stages=3), latent(1)
    sizes: list[tuple[int, ...]] = []
    for stage in part.stages:
        stage.attend.register_forward_hook(lambda _, given, __: sizes.append(tuple(given[0].shape[2:])))
    part.sample(z, rng(1))
    assert sizes == [(4, 4), (8, 8), (16, 16)]
    with pytest.raises(ValueError, match="stages = 4: expected at most 3"):
        generator("attngan", (3, 32, 32), stages=4)


def test_gated_units_are_torchs() -> None:
    x = torch.randn(2, 6, 3, 3)
    torch.testing.assert_close(glu(x), F.glu(x, 1))


# All


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"channels = \[16, 16, 16\]: expected 2\^3 to divide the image's height 16 and width 20"):
        generator("dcgan", (3, 16, 20), channels=(16, 16, 16))
    with pytest.raises(ValueError, match="groups = 5: expected a divisor of every number of channels, and 16 is none"):
        generator("dcgan", groups=5)
    with pytest.raises(ValueError, match="groups = 8: expected a divisor of half of channels = 8"):
        AttnGANGeneratorConfig(channels=8)
    with pytest.raises(ValueError, match="upsample"):
        DCGANGeneratorConfig(upsample="bilinear")


def learn(part: DrawingDecoder, steps: int, lr: float) -> Tensor:
    """Mean distance (b b) from each drawn image to each of the two images, of one colour each, after some steps."""
    z = latent(2)
    y = torch.stack([torch.tensor([0.8, -0.6, -0.2]), torch.tensor([-0.7, 0.5, 0.6])])[..., None, None].expand(-1, -1, 16, 16)
    optimizer = torch.optim.Adam(part.parameters(), lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        part.nll(y, z, Rng((step,), np.arange(2))).mean().backward()
        optimizer.step()
    drawn = part.sample(z, rng(2)).detach()
    return (drawn[:, None] - y[None]).abs().mean((2, 3, 4))


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, options) for name in GENERATORS for options in ({}, {"augmentation": 8})), ("dcgan", {"upsample": "nearest"})],
)
def test_two_captions_two_images(name: str, options: dict[str, Any]) -> None:
    distance = learn(generator(name, **options), 60, 1e-2)
    assert float(distance.diagonal().max()) < 0.25, "each draws its own"
    assert float(distance[0, 1]) > 0.8 and float(distance[1, 0]) > 0.8, "and not the other's"
