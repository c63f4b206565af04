"""A codec's latents, and decoders of pixels that work on them. Shapes: b batch, c h w image, c' h' w' latents."""

from __future__ import annotations

import math

import attrs
import numpy as np
import pytest
import torch
from ibllm_cnn.config import CNNImageDecoderConfig
from ibllm_cnn.image_decoder import CNNImageDecoder
from ibllm_flow.config import FlowConfig
from ibllm_flow.image_decoder import FlowDecoder
from ibllm_gan.attngan import AttnGANGenerator
from ibllm_gan.config import AttnGANGeneratorConfig, CrossAttentionGeneratorConfig, DCGANGeneratorConfig, DFGANGeneratorConfig
from ibllm_gan.cross_attention import CrossAttentionGenerator
from ibllm_gan.dcgan import DCGANGenerator
from ibllm_gan.dfgan import DFGANGenerator
from ibllm_testing.inputs import fabricate
from ibllm_testing.loss import stand_ins
from ibllm_testing.stand_ins import LetterTokenizer
from ibllm_tokens.config import KLConfig
from ibllm_tokens.latent_codec import KLCodec, Standardiser

from ibllm.plugin import Context, Cycle, Latent, Rng

SHAPE = (6, 8, 8)
CONTEXT = Context(
    width=16, latent=8, image_shape=SHAPE, latents={"text_encoder": 12, "image_encoder": 12}, tokenizer=LetterTokenizer(11, 10)
)


def codec(**options: object) -> KLCodec:
    torch.manual_seed(0)
    return KLCodec(KLConfig(**{"patch": 2, "channels": (8, 8), "blocks": 1, "latents": 3, **options}), Context())  # type: ignore[arg-type]


def images(count: int, seed: int = 0) -> torch.Tensor:
    return fabricate(Context(), count, seed).y


def test_kl_is_torchs_and_the_eighth_of_an_image_is_left() -> None:
    part, y = codec(latents=6).eval(), images(4)
    mean, log_variance = part.gaussian(y)
    known = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (log_variance / 2).exp()), torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    )
    torch.testing.assert_close(part(y).regularisation, 1e-3 * known.flatten(1).mean(1), rtol=1e-4, atol=1e-9)
    assert part.latent_shape == (6, 8, 8) and math.prod(part.latent_shape) * 8 == y[0].numel()


def test_latents_have_unit_variance_once_the_codec_has_seen_images() -> None:
    part = codec(decay=0.9).train()
    for seed in range(30):
        part(images(16, seed))
    part.eval()
    latents = part.encode_latents(torch.cat([images(16, seed) for seed in range(20, 30)])).detach()
    assert float(latents.mean((0, 2, 3)).abs().max()) < 0.1
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(3), rtol=0.1, atol=0)
    before = attrs.asdict(part(images(2)), recurse=False)["image"]
    part(images(16, 99))
    assert torch.equal(part(images(2)).image, before), "in use nothing moves"


def test_moments_follow_a_moving_average_whose_first_steps_weigh_alike() -> None:
    seen, x = Standardiser(2, 0.75), torch.randn(5, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0)) * 3 + 1
    mean, square = np.zeros(2), np.zeros(2)
    for step, batch in enumerate(x, 1):
        seen.follow(batch)
        share = max(1 / step, 0.25)
        mean += share * (batch.mean((0, 2, 3)).numpy() - mean)
        spread = (batch.numpy() - mean[None, :, None, None]) ** 2
        square += share * (spread.mean((0, 2, 3)) - square)
    np.testing.assert_allclose(seen.mean.flatten(), mean, rtol=1e-5)
    np.testing.assert_allclose(seen.variance.flatten(), square, rtol=1e-5)
    torch.testing.assert_close(seen.inverse(seen(x[0])), x[0])


def test_a_latent_is_drawn_in_training_and_is_the_mean_in_use() -> None:
    part, y = codec(), images(2)
    with torch.no_grad():
        part.down[-1].bias[3:] = 2.0  # type: ignore[index]
        one, other = part.train()(y).image, part.train()(y).image
        assert not torch.allclose(one, other)
        assert torch.equal(part.eval()(y).image, part(y).image)


DECODERS = {
    "attngan": lambda c: AttnGANGenerator(AttnGANGeneratorConfig(channels=8, groups=4, stages=1), c),
    "cnn": lambda c: CNNImageDecoder(CNNImageDecoderConfig(channels=(16, 8)), c),
    "cross_attention": lambda c: CrossAttentionGenerator(CrossAttentionGeneratorConfig(depth=1, channels=4), c),
    "dcgan": lambda c: DCGANGenerator(DCGANGeneratorConfig(channels=(16, 8)), c),
    "dfgan": lambda c: DFGANGenerator(DFGANGeneratorConfig(channels=4, hidden=8), c),
    "flow": lambda c: FlowDecoder(FlowConfig(depth=1, channels=(8,), steps=2), c),
}


@pytest.mark.parametrize("name", DECODERS)
def test_latents_are_drawn_without_bounds_and_images_within(name: str) -> None:
    z, reached = Latent(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool), torch.randn(2, 8)), {}
    for bounded in (True, False):
        torch.manual_seed(1)
        part = DECODERS[name](attrs.evolve(CONTEXT, bounded=bounded)).eval()
        with torch.no_grad():
            for p in part.parameters():
                p.mul_(3)
            drawn = part.sample(z, Rng((0,), np.arange(2)))
        assert drawn.shape == (2, *SHAPE)
        reached[bounded] = float(drawn.abs().max())
    assert reached[True] <= 1 < 1.5 < reached[False]


def test_what_is_drawn_goes_through_the_codec_and_its_likelihood_does_not() -> None:
    context = attrs.evolve(CONTEXT, image_shape=(3, 32, 32))
    torch.manual_seed(0)
    model = stand_ins(context, works_on="latents")
    model.part("image_tokenizer").requires_grad_(False)
    part, codes = model.part("image_decoder"), model.part("image_tokenizer")
    made = Cycle(model, fabricate(context).batch())
    assert model.works_on == "latents" and made.latents_fake.shape == made.code.shape == (3, 6, 4, 4)
    torch.testing.assert_close(made.y_fake, codes.decode_latents(made.latents_fake))  # type: ignore[operator]
    torch.testing.assert_close(made.image_nll, part.likelihood(codes.encode_latents(made.y), made.latents_fake))  # type: ignore[operator]
    assert not made.code.requires_grad
    # What a critic or the cycle says of the image reaches the decoder through the frozen codec.
    made.y_fake.sum().backward()
    assert all(p.grad is not None for p in part.parameters()) and not any(p.grad is not None for p in codes.parameters())
    drawn = model.sample_image(made.z_x, made.rng("draw"))
    assert drawn.shape == (3, 3, 32, 32) and float(drawn.detach().abs().max()) <= 1
