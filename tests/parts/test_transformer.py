"""The transformer parts: what they promise of shapes, padding, caching and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from ibllm_transformer.config import TransformerTextDecoderConfig, TransformerTextEncoderConfig, ViTImageEncoderConfig
from ibllm_transformer.image_encoder import ViTImageEncoder
from ibllm_transformer.text_decoder import TransformerTextDecoder
from ibllm_transformer.text_encoder import TransformerTextEncoder
from torch import Tensor

from ibllm.blocks.attention import apply_rotary, rotary_embedding
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Latent, Tokens
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.tokenizer import BOS, EOS, PAD, Tokenizer

WIDTH, LATENT = 16, 12


class Letters(Tokenizer):
    """Stands in for a tokenizer: parts need its sizes only."""

    size, max_length = 20, 10

    def train(self, texts: Sequence[str]) -> None: ...

    def encode_one(self, text: str) -> Sequence[int]:
        return [4 + ord(letter) % 16 for letter in text]

    def decode_one(self, ids: Sequence[int]) -> str:
        return str(ids)

    def state(self) -> str:
        return ""

    def restore(self, state: str) -> None: ...


def context() -> Context:
    return Context(width=WIDTH, latent=LATENT, tokenizer=Letters())


def encoder(**options: object) -> TransformerTextEncoder:
    torch.manual_seed(0)
    return TransformerTextEncoder(TransformerTextEncoderConfig(**options), context())


def decoder(kind: type[TransformerTextDecoder] = TransformerTextDecoder, **options: object) -> TransformerTextDecoder:
    torch.manual_seed(0)
    return kind(TransformerTextDecoderConfig(**options), context())


def tokens(lengths: Sequence[int], places: int) -> Tokens:
    """Texts of these lengths, beginning and end included, padded to `places`."""
    ids = torch.randint(4, Letters.size, (len(lengths), places), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(places) < torch.tensor(lengths)[:, None]
    ids[:, 0] = BOS
    ids[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = EOS
    return Tokens(torch.where(mask, ids, PAD), mask)


def latent(b: int, n: int = 6) -> Latent:
    made = torch.randn(b, n, LATENT, generator=torch.Generator().manual_seed(2))
    mask = torch.ones(b, n, dtype=torch.bool)
    mask[0, n - 2 :] = False
    return Latent(made, mask, made.mean(1))


def wider(x: Tokens, by: int) -> Tokens:
    return Tokens(torch.nn.functional.pad(x.ids, (0, by)), torch.nn.functional.pad(x.mask, (0, by)))


@pytest.mark.parametrize("b", [1, 3])
@pytest.mark.parametrize("depth", [0, 2])
def test_encoder_shapes(b: int, depth: int) -> None:
    z = encoder(depth=depth)(tokens([7] * b, 7))
    assert z.tokens.shape == (b, 7, WIDTH)
    assert z.mask.shape == (b, 7)
    assert z.pooled.shape == (b, WIDTH)


def test_encoder_padding_changes_nothing() -> None:
    part, x = encoder().eval(), tokens([4, 6], 6)
    z, padded = part(x), part(wider(x, 3))
    torch.testing.assert_close(padded.tokens[:, :6], z.tokens, atol=1e-6, rtol=0)
    torch.testing.assert_close(padded.pooled, z.pooled, atol=1e-6, rtol=0)
    assert not padded.tokens[:, 6:].any()


def test_encoder_embeds_and_encodes_apart() -> None:
    part, x = encoder().eval(), tokens([5], 5)
    assert torch.equal(part.encode(part.embed(x.ids), x.mask).tokens, part(x).tokens)


@pytest.mark.parametrize("b", [1, 3])
def test_decoder_shapes(b: int) -> None:
    part, x = decoder(), tokens([7] * b, 7)
    assert part.logits(x.ids, x.mask, latent(b)).shape == (b, 7, Letters.size)
    assert part.nll(x, latent(b)).shape == (b,)


def test_decoder_padding_changes_nothing() -> None:
    part, x = decoder().eval(), tokens([4, 6], 6)
    torch.testing.assert_close(part.nll(wider(x, 4), latent(2)), part.nll(x, latent(2)), atol=1e-5, rtol=0)


def test_decoder_sees_no_masked_latent_place() -> None:
    part, x, z = decoder().eval(), tokens([6, 6], 6), latent(2)
    other = Latent(torch.where(z.mask[..., None], z.tokens, 9.0), z.mask, z.pooled)
    assert torch.equal(part.nll(x, other), part.nll(x, z))


def test_decoder_steps_as_it_reads() -> None:
    part, x, z = decoder().eval(), tokens([8, 8, 8], 8), latent(3)
    whole, state = part.logits(x.ids, x.mask, z), part.begin(z)
    for place in range(8):
        logits, state = part.step(x.ids[:, place], state)
        torch.testing.assert_close(logits, whole[:, place], atol=1e-5, rtol=0)


class ReadsAnew(TransformerTextDecoder):
    """Without a cache: at every token, all that was written is read again."""

    def begin(self, z: Latent) -> Any:
        none = torch.zeros(len(z), len(self.positions), dtype=torch.long)
        return none, none[:, 0], z.tokens, z.mask, z.pooled

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        written, length, *z = state
        written = written.scatter(1, length[:, None], ids[:, None])
        logits = self.logits(written, written > -1, Latent(*z))
        return logits[torch.arange(len(ids)), length], (written, length + 1, *z)


@torch.no_grad()
@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("how", [{}, {"beams": 3}, {"temperature": 1.0}])
def test_writing_with_the_cache_is_writing_without(how: dict[str, float], asked: bool) -> None:
    """Greedily, by search (whose beams are put into another order) and by chance, also after prefixes of unequal lengths."""
    part, plain, z = decoder().eval(), decoder(ReadsAnew).eval(), latent(3)
    plain.load_state_dict(part.state_dict())
    prefix = tokens([3, 6, 4], 6) if asked else None
    found, wanted = (one.sample(z, Rng((1,), range(3)), prefix=prefix, **how).ids for one in (part, plain))
    assert torch.equal(found, wanted)


@torch.no_grad()
def test_a_step_writes_into_the_cache_and_copies_none() -> None:
    part, z = decoder().eval(), latent(2)
    state = part.begin(z)
    cache, (_, after) = state[0], part.step(torch.tensor([5, 6]), state)
    assert after[0].keys is cache.keys and after[0].values is cache.values
    assert bool(cache.keys[:, :, :, 0].any()) and not bool(cache.keys[:, :, :, 1:].any())


def test_decoder_rows_may_stand_at_different_places() -> None:
    part, z = decoder().eval(), latent(2)
    prefix, text = tokens([3, 6], 6), tokens([5, 4], 5)
    both = part.nll(text, z, prefix)
    for row in range(2):
        length = int(prefix.lengths()[row])
        one = Latent(z.tokens[row : row + 1], z.mask[row : row + 1], z.pooled[row : row + 1])
        alone = part.nll(
            Tokens(text.ids[row : row + 1], text.mask[row : row + 1]),
            one,
            Tokens(prefix.ids[row : row + 1, :length], prefix.mask[row : row + 1, :length]),
        )
        torch.testing.assert_close(alone[0], both[row], atol=1e-5, rtol=0)
    assert len(part.sample(z, prefix=prefix)) == 2


def test_decoder_writes_what_it_finds_likeliest() -> None:
    part, z = decoder().eval(), latent(2)
    written = part.sample(z)
    assert written.ids.shape[1] <= Letters.max_length
    assert bool((written.ids[:, 0] == BOS).all())
    logits = part.logits(written.ids, written.mask, z)
    logits[..., [PAD, BOS]] = -torch.inf
    follows = written.ids[:, 1:-1]
    seen = follows != PAD
    assert torch.equal(logits[:, :-2].argmax(-1)[seen], follows[seen])


def test_word_dropout_is_for_training_only() -> None:
    part, x, z = decoder(word_dropout=0.9), tokens([8, 8], 8), latent(2)
    assert not torch.equal(part.nll(x, z), part.nll(x, z))
    part.eval()
    assert torch.equal(part.nll(x, z), part.nll(x, z))
    coder = encoder(word_dropout=0.9)
    assert not torch.equal(coder(x).tokens, coder(x).tokens)
    coder.eval()
    assert torch.equal(coder(x).tokens, coder(x).tokens)


def test_every_parameter_learns() -> None:
    coder, part = encoder(), decoder()
    x = tokens([10, 10], 10)
    prefix = tokens([10, 10], 10)  # so that all positions are used
    z = coder(x)
    seen = Latent(z.tokens[..., :LATENT], z.mask, z.pooled[..., :LATENT])
    part.nll(x, seen, prefix).sum().backward()
    for module in (coder, part):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            # The last position and the end token are never read on; softmax hides keys' biases.
            if "memory.bias" not in name:
                assert bool(parameter.grad.any()), name


def test_builds_and_walks_on_meta() -> None:
    with torch.device("meta"):
        coder, part = encoder(), decoder()
        x = Tokens(torch.zeros(2, 5, dtype=torch.long), torch.ones(2, 5, dtype=torch.bool))
        z = Latent(torch.zeros(2, 6, LATENT), torch.ones(2, 6, dtype=torch.bool), torch.zeros(2, LATENT))
        assert coder(x).tokens.shape == (2, 5, WIDTH)
        assert part.nll(x, z).shape == (2,)
        logits, _ = part.step(x.ids[:, 0], part.begin(z))
    assert logits.shape == (2, Letters.size)


@pytest.mark.parametrize("config", [TransformerTextEncoderConfig, TransformerTextDecoderConfig])
def test_heads_must_share_the_width(config: type) -> None:
    with pytest.raises(ValueError, match="heads = 5: expected a divisor of width = 16"):
        config(width=16, heads=5)


def test_heads_must_share_the_model_width() -> None:
    with pytest.raises(ValueError, match="heads = 5: expected a divisor of width = 16"):
        encoder(heads=5)


def test_rotated_queries_and_keys_meet_by_their_distance_alone() -> None:
    query, key = torch.randn(2, 1, 1, 1, 6, generator=torch.Generator().manual_seed(0))
    rotary = rotary_embedding(12, 6)
    products = (apply_rotary(query.expand(1, 1, 12, 6), rotary) @ apply_rotary(key.expand(1, 1, 12, 6), rotary).transpose(-1, -2))[0, 0]
    for distance in range(-11, 12):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=0)
    assert not torch.isclose(products[0, 0], products[0, 1])
    # As rotations of the complex plane (Su et al. 2021, eq. 12): Re⟨q e^{iθm}, k e^{iθn}⟩.
    angles = torch.polar(torch.ones(3), (3 - 7) * 10000.0 ** (-torch.arange(0, 6, 2) / 6))
    q, k = (torch.complex(*x[0, 0, 0].chunk(2)) for x in (query, key))
    torch.testing.assert_close(products[3, 7], (q * angles * k.conj()).real.sum(), atol=1e-5, rtol=0)


def test_a_rotary_encoder_sees_distances_not_places() -> None:
    """A text moved to the right gives the same latent; with learned positions it does not."""
    x = tokens([5], 5)
    moved = Tokens(torch.nn.functional.pad(x.ids, (3, 0)), torch.nn.functional.pad(x.mask, (3, 0)))
    rotary, learned = encoder(positions="rotary").eval(), encoder().eval()
    torch.testing.assert_close(rotary(moved).tokens[:, 3:], rotary(x).tokens, atol=1e-5, rtol=0)
    assert not torch.allclose(learned(moved).tokens[:, 3:], learned(x).tokens, atol=1e-2)
    backwards = x.ids.clone()
    backwards[0, 1:4] = x.ids[0, 1:4].flip(0)
    assert not torch.allclose(rotary(Tokens(backwards, x.mask)).pooled, rotary(x).pooled, atol=1e-3)  # the order still counts


def test_rotary_positions_need_layers_and_even_heads() -> None:
    with pytest.raises(ValueError, match="positions = 'rotary': expected at least one layer"):
        TransformerTextEncoderConfig(positions="rotary", depth=0)
    with pytest.raises(ValueError, match="heads: expected heads of an even width for rotary positions, not 3"):
        encoder(positions="rotary", width=6, heads=2)


@pytest.mark.parametrize("options", [{"causal": True}, {"causal": True, "positions": "rotary"}, {"depth": 0}])
def test_a_causal_encoder_sees_no_later_token(options: dict[str, object]) -> None:
    part, x = encoder(**options).eval(), tokens([6, 6], 6)
    assert "causal" in TransformerTextEncoderConfig(**options).provides()
    other = x.ids.clone()
    other[:, 4:] = 5
    first, second = part(x).tokens, part(Tokens(other, x.mask)).tokens
    torch.testing.assert_close(second[:, :4], first[:, :4], atol=1e-6, rtol=0)
    assert not torch.allclose(second[:, 4:], first[:, 4:], atol=1e-2)


def test_patches_are_places_row_by_row() -> None:
    torch.manual_seed(0)
    part = ViTImageEncoder(ViTImageEncoderConfig(patch=4, depth=0), Context(width=WIDTH, image_shape=(1, 8, 12))).eval()
    y = torch.zeros(1, 1, 8, 12)
    z, other = part(y), y.clone()
    assert z.tokens.shape == (1, 6, WIDTH) and z.mask.all()
    torch.testing.assert_close(z.pooled, z.tokens.mean(1))
    other[0, 0, 5, 9] = 1  # row 1, column 2 of 2 × 3 patches
    changed = (part(other).tokens != z.tokens).any(-1)
    assert changed.tolist() == [[False] * 5 + [True]]
    assert len(z.tokens[0].unique(dim=0)) == 6  # each place has its position


def test_a_patch_must_divide_the_image() -> None:
    with pytest.raises(ValueError, match="patch = 5: expected a divisor of the image's height 32 and width 32"):
        ViTImageEncoder(ViTImageEncoderConfig(patch=5), Context(width=WIDTH))
