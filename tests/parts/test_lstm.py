"""LSTM parts: padding changes nothing, stepping equals teacher forcing, and the directions are torch's own."""

from __future__ import annotations

import types

import pytest
import torch
from ibllm_lstm.config import LSTMTextDecoderConfig, LSTMTextEncoderConfig
from ibllm_lstm.text_decoder import LSTMTextDecoder
from ibllm_lstm.text_encoder import LSTMTextEncoder
from torch import Tensor, nn

from ibllm.blocks.layers import word_dropout
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Latent, Tokens
from ibllm_core.interfaces.tokenizer import BOS, EOS, PAD, UNK

CONTEXT = Context(width=12, latent=10, tokenizer=types.SimpleNamespace(size=20, max_length=9))  # type: ignore[arg-type]
ROWS = [[BOS, 4, 5, 6, EOS], [BOS, 7, EOS], [BOS, 8, 9, 10, 11, 12, EOS]]
ATTENTIONS = ("general", "additive", "none")


def tokens(rows: list[list[int]] = ROWS, extra: int = 0) -> Tokens:
    longest = max(map(len, rows)) + extra
    ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
    return Tokens(ids, ids != PAD)


def latent(b: int = 3, n: int = 6) -> Latent:
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(b, n, dtype=torch.bool)
    mask[1:, n - 2 :] = False
    return Latent(torch.randn(b, n, 10, generator=generator), mask, torch.randn(b, 10, generator=generator))


def encoder(**options: object) -> LSTMTextEncoder:
    torch.manual_seed(0)
    return LSTMTextEncoder(LSTMTextEncoderConfig(**options), CONTEXT)  # type: ignore[arg-type]


def decoder(**options: object) -> LSTMTextDecoder:
    torch.manual_seed(0)
    return LSTMTextDecoder(LSTMTextDecoderConfig(**options), CONTEXT)  # type: ignore[arg-type]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pool", ["last", "mean"])
def test_padding_and_neighbours_change_nothing(bidirectional: bool, pool: str) -> None:
    part = encoder(bidirectional=bidirectional, pool=pool)
    together = part(tokens(extra=3))
    for place, row in enumerate(ROWS):
        alone = part(tokens([row]))
        torch.testing.assert_close(together.tokens[place, : len(row)], alone.tokens[0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(together.pooled[place], alone.pooled[0], atol=1e-6, rtol=1e-5)
    assert together.tokens[~together.mask].abs().max() == 0


def test_what_stands_in_the_padding_is_never_read() -> None:
    part = encoder()
    given = tokens(extra=2)
    other = Tokens(torch.where(given.mask, given.ids, 13), given.mask)
    torch.testing.assert_close(part(given).pooled, part(other).pooled, atol=0, rtol=0)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_layers_are_torchs_lstm(bidirectional: bool) -> None:
    """The same weights in one `nn.LSTM` over packed sequences give the same states."""
    part = encoder(bidirectional=bidirectional, embed=7)
    own = 6 if bidirectional else 12
    whole = nn.LSTM(7, own, num_layers=2, bidirectional=bidirectional, batch_first=True)
    for number, layer in enumerate(part.layers):
        for suffix, direction in (("", layer.forwards), ("_reverse", layer.backwards)):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if direction is not None else ():
                getattr(whole, f"{name}_l{number}{suffix}").data.copy_(getattr(direction, f"{name}_l0"))
    given = tokens()
    packed = nn.utils.rnn.pack_padded_sequence(part.embed(given.ids), given.lengths(), batch_first=True, enforce_sorted=False)
    states, (last, _) = whole(packed)
    expected, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
    z = part(given)
    torch.testing.assert_close(z.tokens, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(z.pooled, torch.cat([last[-2], last[-1]], -1) if bidirectional else last[-1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_stepping_equals_teacher_forcing(attention: str) -> None:
    part, given, z = decoder(attention=attention, embed=5).eval(), tokens(), latent()
    forced = part.logits(given.ids, given.mask, z)
    state = part.begin(z)
    shapes = [tensor.shape for tensor in state]
    for place in range(given.ids.shape[1]):
        stepped, state = part.step(given.ids[:, place], state)
        torch.testing.assert_close(stepped, forced[:, place], atol=1e-5, rtol=1e-5)
        assert [tensor.shape for tensor in state] == shapes


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_masked_places_of_the_latent_are_not_read(attention: str) -> None:
    part, given, z = decoder(attention=attention), tokens(), latent()
    other = Latent(torch.where(z.mask.unsqueeze(-1), z.tokens, 9.0), z.mask, z.pooled)
    torch.testing.assert_close(part.nll(given, z), part.nll(given, other), atol=1e-6, rtol=1e-6)


def test_attention_reads_the_places_and_without_it_only_the_pooled_vector_counts() -> None:
    given, z = tokens(), latent()
    other = Latent(z.tokens + 1, z.mask, z.pooled)
    assert not torch.allclose(decoder().nll(given, z), decoder().nll(given, other))
    torch.testing.assert_close(decoder(attention="none").nll(given, z), decoder(attention="none").nll(given, other))


def test_general_attention_closed_form() -> None:
    part, z = decoder().attention, latent()
    assert part is not None
    h = torch.randn(3, 2, 12, generator=torch.Generator().manual_seed(1))
    found = part(h, part.key(z.tokens), z.tokens, z.mask)
    for b in range(3):
        for t in range(2):
            scores = [float((h[b, t] @ part.key.weight @ z.tokens[b, s]).detach()) for s in range(6) if z.mask[b, s]]
            weights = torch.tensor(scores).softmax(0)
            expected = sum((w * z.tokens[b, s] for s, w in enumerate(weights)), torch.zeros(10))
            torch.testing.assert_close(found[b, t].detach(), expected, atol=1e-5, rtol=1e-5)


def test_nll_is_a_probability_over_all_short_texts() -> None:
    """Over a tiny vocabulary the probabilities of all texts of one length that end, and of all that do not, sum to one."""
    torch.manual_seed(0)
    context = Context(width=6, latent=10, tokenizer=types.SimpleNamespace(size=5, max_length=9))  # type: ignore[arg-type]
    part, total = LSTMTextDecoder(LSTMTextDecoderConfig(), context), 0.0
    z = latent(1)
    for first in range(5):
        for second in range(5):
            ids = torch.tensor([[BOS, first, second]])
            total += float((-part.nll(Tokens(ids, torch.ones_like(ids, dtype=torch.bool)), z)).exp().detach())
    assert total == pytest.approx(1.0, abs=1e-5)


def test_word_dropout_follows_torchs_generator_and_only_in_training() -> None:
    part, given, z = decoder(word_dropout=0.5), tokens(), latent()

    def nll(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return part.nll(given, z)

    torch.testing.assert_close(nll(1), nll(1), atol=0, rtol=0)
    assert not torch.allclose(nll(1), nll(2))
    replaced = word_dropout(given.ids, 0.5)
    assert (replaced[:, 0] == BOS).all()
    assert set(replaced[replaced != given.ids].tolist()) == {UNK}
    part.eval()
    torch.testing.assert_close(nll(1), nll(2), atol=0, rtol=0)


def test_word_dropout_takes_no_word_of_a_prefix() -> None:
    """Two questions are told apart by their words however many words of the text are dropped."""
    part, z = decoder(word_dropout=0.999), latent()
    text = tokens([[BOS, 4, EOS]] * len(z))
    torch.manual_seed(0)
    one, again, other = (part.nll(text, z, tokens([[BOS, word, 6, EOS]] * len(z))) for word in (5, 5, 7))
    torch.testing.assert_close(one, again, atol=0, rtol=0)
    assert (one - other).abs().min() > 1e-4
    longer = tokens([[BOS, 4, 5, 6, 7, 8, EOS]] * len(z))
    assert not torch.equal(part.nll(longer, z), part.eval().nll(longer, z))


def test_a_question_before_the_answer_is_read_by_stepping_too() -> None:
    part, z = decoder().eval(), latent()
    question = tokens([[BOS, 4, EOS], [BOS, 5, 6, 7, EOS], [BOS, 8, 9, EOS]])
    written = part.sample(z, prefix=question)
    for row in range(3):
        one = Latent(z.tokens[row : row + 1], z.mask[row : row + 1], z.pooled[row : row + 1])
        length = int(question.mask[row].sum())
        alone = part.sample(one, prefix=Tokens(question.ids[row : row + 1, :length], question.mask[row : row + 1, :length]))
        shared = min(alone.ids.shape[1], written.ids.shape[1])
        assert alone.ids[0, :shared].tolist() == written.ids[row, :shared].tolist()


def test_parts_run_on_the_meta_device() -> None:
    with torch.device("meta"):
        read, write = encoder(), decoder()
        ids = torch.ones(2, 5, dtype=torch.long)
        z = Latent(torch.zeros(2, 6, 10), torch.ones(2, 6, dtype=torch.bool), torch.zeros(2, 10))
        given = Tokens(ids, torch.ones(2, 5, dtype=torch.bool))
        assert read(given).pooled.shape == (2, 12)
        assert write.nll(given, z).shape == (2,)
        assert write.step(ids[:, 0], write.begin(z))[0].shape == (2, 20)


def test_gradients_reach_every_parameter() -> None:
    read, write = encoder(), decoder(attention="additive")
    total = read(tokens()).pooled.sum() + write.nll(tokens(), latent()).sum()
    total.backward()
    assert all(p.grad is not None for part in (read, write) for p in part.parameters())


def test_an_odd_width_cannot_be_shared_by_two_directions() -> None:
    with pytest.raises(ValueError, match="expected an even number"):
        LSTMTextEncoderConfig(width=7)
    with pytest.raises(ValueError, match="expected an even number"):
        LSTMTextEncoder(LSTMTextEncoderConfig(), Context(width=7, tokenizer=CONTEXT.tokenizer))
    LSTMTextEncoderConfig(width=7, bidirectional=False)


def test_the_articles_configuration() -> None:
    part = encoder(embed=256, width=512, layers=2, bidirectional=False)
    assert part.layers[0].forwards.weight_ih_l0.shape == (4 * 512, 256)  # type: ignore[union-attr]
    assert part(tokens()).pooled.shape == (3, 512)
