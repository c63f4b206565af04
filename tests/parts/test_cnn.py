"""The convolutional image encoder."""

from __future__ import annotations

import pytest
import torch
from ibllm_cnn.config import CNNImageEncoderConfig
from ibllm_cnn.image_encoder import CNNImageEncoder

from ibllm.plugin import local_contrast
from ibllm_core.interfaces.context import Context


def encoder(shape: tuple[int, int, int] = (3, 32, 32), **options: object) -> CNNImageEncoder:
    torch.manual_seed(0)
    return CNNImageEncoder(CNNImageEncoderConfig(**({"channels": (8, 16)} | options)), Context(width=12, image_shape=shape))


@pytest.mark.parametrize("b", [1, 3])
@pytest.mark.parametrize(("shape", "places"), [((3, 32, 32), 64), ((1, 20, 28), 35)])
def test_shapes(b: int, shape: tuple[int, int, int], places: int) -> None:
    z = encoder(shape)(torch.rand(b, *shape) * 2 - 1)
    assert z.tokens.shape == (b, places, 12)
    assert z.mask.shape == (b, places)
    assert bool(z.mask.all())
    assert z.pooled.shape == (b, 12)


def test_own_width_wins() -> None:
    part = encoder(width=20)
    assert part.width == 20
    assert part(torch.zeros(1, 3, 32, 32)).pooled.shape == (1, 20)


def test_items_do_not_see_each_other() -> None:
    part, y = encoder(), torch.rand(3, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(part(y[1:2]).tokens, part(y).tokens[1:2], atol=1e-5, rtol=0)


def test_every_parameter_learns() -> None:
    part = encoder()
    z = part(torch.rand(2, 3, 32, 32) * 2 - 1)
    (z.tokens * torch.randn_like(z.tokens)).sum().backward()
    for name, parameter in part.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name


def test_gradient_reaches_the_image() -> None:
    y = torch.zeros(1, 3, 32, 32, requires_grad=True)
    encoder()(y).tokens.square().sum().backward()
    assert y.grad is not None and bool(y.grad.any())


def test_walks_on_meta() -> None:
    with torch.device("meta"):
        assert encoder()(torch.zeros(2, 3, 32, 32)).tokens.shape == (2, 64, 12)


def test_groups_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="groups = 8: expected a divisor of every number of channels, and 12 is none"):
        CNNImageEncoderConfig(channels=(12,))
    with pytest.raises(ValueError, match="at least one stage"):
        CNNImageEncoderConfig(channels=())


def test_factored_has_places_for_forms_and_for_colours() -> None:
    z = encoder(factored=True)(torch.rand(2, 3, 32, 32) * 2 - 1)
    assert z.tokens.shape == (2, 128, 12)
    assert z.mask.shape == (2, 128)


def square(colour: tuple[float, float, float]) -> torch.Tensor:
    y = torch.full((1, 3, 32, 32), -0.8)
    y[:, :, 10:20, 6:18] = torch.tensor(colour)[:, None, None]
    return y


def test_contrast_has_no_colour() -> None:
    red, cyan = local_contrast(square((0.9, -0.8, -0.8))), local_contrast(square((-0.6, 0.7, 0.9)))
    torch.testing.assert_close(red, cyan, atol=1e-6, rtol=0)
    assert float(red.max()) > 0.9
    assert float(red[..., 25:, 25:].max()) == 0


def test_factored_reads_forms_without_colours_and_colours_beside_them() -> None:
    part = encoder(factored=True).eval()
    red, cyan = part(square((0.9, -0.8, -0.8))).tokens, part(square((-0.6, 0.7, 0.9))).tokens
    torch.testing.assert_close(red[:, :64], cyan[:, :64], atol=1e-5, rtol=0)
    assert float((red[:, 64:] - cyan[:, 64:]).detach().abs().max()) > 1e-2


def test_every_parameter_of_the_factored_encoder_learns() -> None:
    part = encoder(factored=True)
    z = part(torch.rand(2, 3, 32, 32) * 2 - 1)
    (z.tokens * torch.randn_like(z.tokens)).sum().backward()
    for name, parameter in part.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name


def test_factored_walks_on_meta() -> None:
    with torch.device("meta"):
        assert encoder(factored=True)(torch.zeros(2, 3, 32, 32)).tokens.shape == (2, 128, 12)
