"""The bag of words: a mean that knows no order."""

from __future__ import annotations

import types

import torch
from ibllm_bag.config import BagTextEncoderConfig
from ibllm_bag.text_encoder import BagTextEncoder

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Tokens
from ibllm_core.interfaces.tokenizer import BOS, EOS, PAD

IDS = torch.tensor([[BOS, 4, 5, 6, EOS], [BOS, 7, EOS, PAD, PAD]])
TOKENS = Tokens(IDS, IDS != PAD)


def encoder(**options: object) -> BagTextEncoder:
    torch.manual_seed(0)
    context = Context(width=6, tokenizer=types.SimpleNamespace(size=9, max_length=8))  # type: ignore[arg-type]
    return BagTextEncoder(BagTextEncoderConfig(**options), context)  # type: ignore[arg-type]


def test_it_is_the_mean_of_the_embeddings() -> None:
    part = encoder()
    z, weight = part(TOKENS), part.embedding.weight
    torch.testing.assert_close(z.pooled[0], weight[[BOS, 4, 5, 6, EOS]].mean(0))
    torch.testing.assert_close(z.pooled[1], weight[[BOS, 7, EOS]].mean(0))
    torch.testing.assert_close(z.tokens[1, 1], weight[7])


def test_order_does_not_matter() -> None:
    part, other = encoder(), IDS.clone()
    other[0, 1:4] = torch.tensor([6, 4, 5])
    torch.testing.assert_close(part(Tokens(other, other != PAD)).pooled, part(TOKENS).pooled)


def test_dropped_words_leave_the_mean_of_the_others() -> None:
    """Iyyer et al. 2015, section 3.2: the mean is taken over the words that are kept; every word is dropped as often as it should be."""
    part = encoder(word_dropout=0.25)
    torch.manual_seed(0)
    z = part(Tokens(IDS[:1].expand(4000, -1), TOKENS.mask[:1].expand(4000, -1)))
    kept = z.tokens.detach().abs().sum(-1) > 0
    torch.testing.assert_close(z.pooled, z.tokens.sum(1) / kept.sum(1, keepdim=True).clamp(min=1))
    assert (kept.float().mean(0) - 0.75).abs().max() < 0.03
    assert torch.equal(part.eval()(TOKENS).pooled, encoder()(TOKENS).pooled)
