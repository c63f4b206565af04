"""The article's plain convolutional parts."""

from __future__ import annotations

import pytest
import torch
from ibllm_seed.config import SeedImageDecoderConfig, SeedImageEncoderConfig
from ibllm_seed.image_decoder import SeedImageDecoder
from ibllm_seed.image_encoder import SeedImageEncoder

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Latent
from ibllm_core.interfaces.noise import Rng

CONTEXT = Context(image_shape=(3, 12, 16), width=8, latent=10)


def latent(b: int = 2) -> Latent:
    pooled = torch.randn(b, 10, generator=torch.Generator().manual_seed(0))
    return Latent(pooled[:, None], torch.ones(b, 1, dtype=torch.bool), pooled)


def test_encoder_places_are_the_means_of_their_cells() -> None:
    torch.manual_seed(0)
    part = SeedImageEncoder(SeedImageEncoderConfig(), CONTEXT)
    y = torch.rand(2, 3, 12, 16) * 2 - 1
    z = part(y)
    assert z.tokens.shape == (2, 16, 8)
    mapped = part.convolution(y).relu()
    torch.testing.assert_close(z.tokens[:, 6], mapped[:, :, 3:6, 8:12].mean((2, 3)))
    torch.testing.assert_close(z.pooled, mapped.mean((2, 3)))


def test_decoder_draws_in_range_and_its_likelihood_is_gaussian() -> None:
    torch.manual_seed(0)
    part, z, rng = SeedImageDecoder(SeedImageDecoderConfig(scale=0.5), CONTEXT), latent(), Rng((0,), [0, 1])
    drawn = part.sample(z, rng)
    assert drawn.shape == (2, 3, 12, 16)
    assert drawn.abs().max() <= 1
    y = torch.zeros_like(drawn)
    normal = torch.distributions.Normal(drawn, 0.5)
    difference = (normal.log_prob(drawn) - normal.log_prob(y)).flatten(1).sum(1)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(part.nll(y, z, rng), difference)


def test_different_places_can_be_painted_differently() -> None:
    torch.manual_seed(0)
    drawn = SeedImageDecoder(SeedImageDecoderConfig(), CONTEXT).sample(latent(), Rng((0,), [0, 1]))
    assert drawn[:, :, 1:-1, 1:-1].flatten(2).std(-1).min() > 0.01


def test_both_run_on_the_meta_device() -> None:
    with torch.device("meta"):
        assert SeedImageEncoder(SeedImageEncoderConfig(), CONTEXT)(torch.zeros(2, 3, 12, 16)).tokens.shape == (2, 16, 8)
        part = SeedImageDecoder(SeedImageDecoderConfig(), CONTEXT)
        z = Latent(torch.zeros(2, 1, 10), torch.ones(2, 1, dtype=torch.bool), torch.zeros(2, 10))
        assert part.draw(z, torch.zeros(2, 0)).shape == (2, 3, 12, 16)


def test_a_grid_finer_than_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at most the image's smaller side, 12"):
        SeedImageEncoder(SeedImageEncoderConfig(grid=13), CONTEXT)
