"""The convolutional text encoder, the residual network and the convolutional image decoder."""

from __future__ import annotations

import types

import pytest
import torch
from ibllm_cnn.config import CNNImageDecoderConfig, CNNTextEncoderConfig, ResNetImageEncoderConfig
from ibllm_cnn.image_decoder import CNNImageDecoder
from ibllm_cnn.resnet import BasicBlock, ResNetImageEncoder
from ibllm_cnn.text_encoder import CNNTextEncoder
from torch import Tensor
from torch.nn import functional as F

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Latent, Tokens
from ibllm_core.interfaces.tokenizer import BOS, EOS

CONTEXT = Context(width=8, latent=10, tokenizer=types.SimpleNamespace(size=20, max_length=30))  # type: ignore[arg-type]


def reader(**options: object) -> CNNTextEncoder:
    torch.manual_seed(0)
    return CNNTextEncoder(CNNTextEncoderConfig(**options), CONTEXT).eval()  # type: ignore[arg-type]


def resnet(shape: tuple[int, int, int] = (3, 32, 32), **options: object) -> ResNetImageEncoder:
    torch.manual_seed(0)
    return ResNetImageEncoder(ResNetImageEncoderConfig(**options), Context(width=12, image_shape=shape))  # type: ignore[arg-type]


def drawer(shape: tuple[int, int, int] = (3, 32, 32), **options: object) -> CNNImageDecoder:
    torch.manual_seed(0)
    return CNNImageDecoder(CNNImageDecoderConfig(**options), Context(latent=10, image_shape=shape))  # type: ignore[arg-type]


def latent(b: int = 3) -> Latent:
    random = torch.Generator().manual_seed(0)
    return Latent(torch.zeros(b, 2, 10), torch.ones(b, 2, dtype=torch.bool), torch.randn(b, 10, generator=random))


@pytest.mark.parametrize(("kernel", "dilations"), [(3, (1, 2, 4)), (5, (1, 1)), (1, (1,)), (3, ())])
def test_a_token_is_seen_as_far_as_the_dilations_reach(kernel: int, dilations: tuple[int, ...]) -> None:
    part, t = reader(kernel=kernel, dilations=dilations), 25
    embeddings = torch.randn(1, t, 8, requires_grad=True)
    middle = t // 2
    part.encode(embeddings, torch.ones(1, t, dtype=torch.bool)).tokens[0, middle].square().sum().backward()
    assert embeddings.grad is not None
    seen = embeddings.grad.abs().sum(-1)[0].nonzero().flatten()
    reach = (kernel - 1) * sum(dilations) // 2
    assert (int(seen.min()), int(seen.max())) == (middle - reach, middle + reach)


@pytest.mark.parametrize("activation", ["gated", "gelu"])
def test_a_layer_is_its_formula(activation: str) -> None:
    """Written out token by token: zeros beyond the text, σ-gated or GELU units, a linear layer, the residual."""
    part = reader(dilations=(2,), activation=activation)
    layer = part.layers[0]
    x, length = torch.randn(1, 7, 8), 5
    mask = (torch.arange(7) < length)[None, :, None]
    normed = F.layer_norm(x, (8,))
    expected = x.clone()
    for place in range(length):
        unit = layer.convolution.bias.clone()
        for tap, offset in enumerate((-2, 0, 2)):
            if 0 <= place + offset < length:
                unit = unit + layer.convolution.weight[:, :, tap] @ normed[0, place + offset]
        unit = unit[:8] * unit[8:].sigmoid() if activation == "gated" else F.gelu(unit)
        expected[0, place] = x[0, place] + layer.out.weight @ unit + layer.out.bias
    torch.testing.assert_close(layer(x, mask)[:, :length], expected[:, :length], atol=1e-5, rtol=0)


def test_pooling() -> None:
    ids = torch.tensor([[BOS, 5, 6, EOS, 0, 0]])
    tokens = Tokens(ids, ids != 0)
    for pool, expected in (("mean", lambda x: x.mean(0)), ("max", lambda x: x.amax(0))):
        z = reader(pool=pool)(tokens)
        torch.testing.assert_close(z.pooled[0], expected(z.tokens[0, :4]), atol=1e-6, rtol=0)


def test_even_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match="kernel = 4: expected an odd number"):
        CNNTextEncoderConfig(kernel=4)


@pytest.mark.parametrize(("blocks", "parameters"), [((2, 2, 2, 2), 11_176_512), ((3, 4, 6, 3), 21_284_672)])
def test_it_is_the_published_network(blocks: tuple[int, ...], parameters: int) -> None:
    """ResNet-18 and ResNet-34 have 11,689,512 and 21,797,672 parameters with a classifier of 513,000 (torchvision); norms count alike."""
    with torch.device("meta"):
        part = resnet((3, 224, 224), channels=(64, 128, 256, 512), blocks=blocks, stem=7, pool=True)
        assert sum(p.numel() for p in part.layers.parameters()) == parameters
        assert part.layers(torch.zeros(1, 3, 224, 224)).shape == (1, 512, 7, 7)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 19, 27), (3, 33, 17)])
@pytest.mark.parametrize("options", [{}, {"stride": 1, "pool": True}, {"stem": 5, "stride": 3}, {"channels": (8,), "blocks": (2,)}])
def test_every_place_of_the_last_map_has_a_position(shape: tuple[int, int, int], options: dict[str, object]) -> None:
    part = resnet(shape, **({"channels": (8, 16, 16)} | options))
    z = part(torch.rand(2, *shape))
    assert z.tokens.shape == (2, len(part.positions), 12)
    torch.testing.assert_close(z.pooled, z.tokens.mean(1))


def test_the_shortcut_is_a_strided_convolution() -> None:
    block = BasicBlock(8, 16, stride=2, groups=4)
    x = torch.randn(3, 8, 17, 16)
    projection, norm = block.shortcut
    expected = F.relu(norm(F.conv2d(x, projection.weight, stride=2)) + block.body(x))
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)


def test_the_stages_of_a_residual_network_must_agree() -> None:
    with pytest.raises(ValueError, match=r"blocks = \(1, 1\): expected 3 numbers, one for each stage"):
        ResNetImageEncoderConfig(blocks=(1, 1))
    with pytest.raises(ValueError, match="groups = 8: expected a divisor of every number of channels, and 12 is none"):
        ResNetImageEncoderConfig(channels=(12,), blocks=(1,))


def patterns() -> Tensor:
    """(4 3 16 16) four images that differ in form and colour."""
    y = torch.full((4, 3, 16, 16), -0.9)
    for item, (rows, columns) in enumerate(
        ((slice(2, 8), slice(2, 8)), (slice(8, 14), slice(2, 14)), (slice(0, 16, 2), slice(0, 16)), (slice(4, 12), slice(4, 12)))
    ):
        y[item, item % 3, rows, columns] = 0.8
    return y


def test_the_image_decoder_learns_what_to_draw() -> None:
    y, z = patterns(), latent(4)
    part = drawer((3, 16, 16), channels=(32, 16, 8))
    optimizer = torch.optim.Adam(part.parameters(), lr=1e-2)
    noise = torch.zeros(4, 0)
    for _ in range(80):
        optimizer.zero_grad()
        part.likelihood(y, part.draw(z, noise)).mean().backward()
        optimizer.step()
    error = (part.draw(z, noise) - y).detach().square().mean((1, 2, 3))
    mean = (y.mean(0) - y).square().mean((1, 2, 3))
    assert float((error / mean).max()) < 0.1


def test_the_residual_network_and_the_text_encoder_tell_things_apart() -> None:
    y = patterns()
    torch.manual_seed(0)
    part, head = resnet((3, 16, 16), channels=(8, 16), blocks=(1, 1)), torch.nn.Linear(12, 4)
    texts = torch.tensor([[BOS, 5, 6, 7, EOS], [BOS, 6, 5, 7, EOS], [BOS, 7, 6, 5, EOS], [BOS, 5, 7, 6, EOS]])
    words = reader().train()
    own = torch.nn.Linear(8, 4)
    tokens = Tokens(texts, texts != 0)
    parameters = [p for module in (part, head, words, own) for p in module.parameters()]
    optimizer, truth = torch.optim.Adam(parameters, lr=1e-2), torch.arange(4)
    for _ in range(40):
        optimizer.zero_grad()
        (F.cross_entropy(head(part(y).pooled), truth) + F.cross_entropy(own(words(tokens).pooled), truth)).backward()
        optimizer.step()
    assert torch.equal(head(part(y).pooled).argmax(1), truth)
    assert torch.equal(own(words(tokens).pooled).argmax(1), truth)  # the same words in another order: a bag could not


@pytest.mark.parametrize("noise", [0, 4])
def test_noise_is_seen_where_there_is_any(noise: int) -> None:
    part, z = drawer(channels=(16, 8), noise=noise), latent()
    assert part.noise_width == noise
    first, second = part.draw(z, torch.zeros(3, noise)), part.draw(z, torch.ones(3, noise))
    assert torch.equal(first, second) == (noise == 0)
    assert ("noise" in part.config.provides()) == (noise > 0)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 32, 48), (2, 4, 8)])
def test_any_shape_that_halves_often_enough(shape: tuple[int, int, int]) -> None:
    assert drawer(shape, channels=(16, 8, 8)).draw(latent(1), torch.zeros(1, 0)).shape == (1, *shape)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"channels = \(16, 8, 8\): expected an image whose height 30 and width 32 halve 2 times"):
        drawer((3, 30, 32), channels=(16, 8, 8))
    with pytest.raises(ValueError, match="expected at least the first map's"):
        CNNImageDecoderConfig(channels=())
