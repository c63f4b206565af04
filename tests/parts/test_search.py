"""How texts are written: beam search against all texts there are, drawing against the probabilities."""

from __future__ import annotations

import itertools
import types
from collections import Counter

import numpy as np
import pytest
import torch
from ibllm_lstm.config import LSTMTextDecoderConfig
from ibllm_lstm.text_decoder import LSTMTextDecoder
from ibllm_transformer.config import TransformerTextDecoderConfig
from ibllm_transformer.text_decoder import TransformerTextDecoder

from ibllm.blocks.sampling import choose
from ibllm.plugin import TextDecoder
from ibllm_core.errors import UserError
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.image import ImageEncoder
from ibllm_core.interfaces.latent import Latent, Tokens
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.tokenizer import BOS, EOS, PAD, Tokenizer
from ibllm_core.model.model import Model

VOCABULARY, LONGEST, ROWS = 7, 5, 4
CONTEXT = Context(width=12, latent=10, tokenizer=types.SimpleNamespace(size=VOCABULARY, max_length=LONGEST))  # type: ignore[arg-type]
#: Every text that can be written: up to three tokens between beginning and end.
TEXTS = [[BOS, *body, EOS] for n in range(LONGEST - 1) for body in itertools.product(range(3, VOCABULARY), repeat=n)]
PREFIX = [[BOS, 5, 6, EOS], [BOS, 4, EOS], [BOS, EOS], [BOS, 6, 6, 4, EOS]]
FAMILIES = ("lstm", "transformer")


def decoder(family: str, sharp: float = 4.0) -> TextDecoder:
    """With `sharp` logits, so that some texts are much likelier than others."""
    torch.manual_seed(3)
    if family == "lstm":
        part: TextDecoder = LSTMTextDecoder(LSTMTextDecoderConfig(), CONTEXT)
    else:
        part = TransformerTextDecoder(TransformerTextDecoderConfig(), CONTEXT)
    part.head.weight.data *= sharp
    return part.eval()


def latent(b: int = ROWS) -> Latent:
    generator = torch.Generator().manual_seed(1)
    z = Latent(
        3 * torch.randn(b, 6, 10, generator=generator), torch.ones(b, 6, dtype=torch.bool), 3 * torch.randn(b, 10, generator=generator)
    )
    z.mask[0, 4:] = False
    return z


def tokens(rows: list[list[int]]) -> Tokens:
    longest = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
    return Tokens(ids, ids != PAD)


def pick(z: Latent, row: int, times: int = 1) -> Latent:
    return Latent(z.tokens[row : row + 1], z.mask[row : row + 1], z.pooled[row : row + 1]).repeat(times)


def all_scores(part: TextDecoder, z: Latent, prefix: list[list[int]] | None) -> torch.Tensor:
    """(rows texts) log p of every text."""
    given = tokens(TEXTS)
    with torch.no_grad():
        rows = [
            -part.nll(given, pick(z, row, len(TEXTS)), tokens([prefix[row]] * len(TEXTS)) if prefix is not None else None)
            for row in range(len(z))
        ]
    return torch.stack(rows)


def written(found: Tokens) -> list[list[int]]:
    return [row[: row.index(EOS) + 1] for row in found.ids.tolist()]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prefix", [None, PREFIX])
@pytest.mark.parametrize("exponent", [0.0, 0.7, 2.0])
def test_enough_beams_find_the_best_of_all_texts(family: str, prefix: list[list[int]] | None, exponent: float) -> None:
    part, z = decoder(family), latent()
    scores = all_scores(part, z, prefix) / torch.tensor([len(text) - 1.0 for text in TEXTS]) ** exponent
    expected = [TEXTS[place] for place in scores.argmax(1).tolist()]
    given = tokens(prefix) if prefix is not None else None
    found = part.sample(z, prefix=given, beams=(VOCABULARY - 3) ** (LONGEST - 2), length_exponent=exponent)
    assert written(found) == expected
    assert torch.equal(found.mask, found.ids != PAD)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prefix", [None, PREFIX])
def test_a_few_beams_are_no_worse_than_greedy_and_rows_are_independent(family: str, prefix: list[list[int]] | None) -> None:
    part, z = decoder(family), latent()
    given = tokens(prefix) if prefix is not None else None
    with torch.no_grad():
        greedy, few = (part.sample(z, prefix=given, beams=beams) for beams in (1, 3))
        likelier = part.nll(greedy, z, given) - part.nll(few, z, given)
    assert float(likelier.min()) >= -1e-5
    for row in range(ROWS):
        own = tokens([prefix[row]]) if prefix is not None else None
        alone = part.sample(pick(z, row), prefix=own, beams=3)
        assert written(alone) == [written(few)[row]]


def test_searching_finds_what_greedy_misses() -> None:
    """On some of many latents the likeliest first word does not begin the likeliest text."""
    part, z = decoder("lstm"), latent(64)
    greedy, few = (part.sample(z, beams=beams) for beams in (1, 4))
    with torch.no_grad():
        likelier = part.nll(greedy, z) - part.nll(few, z)
    assert float(likelier.max()) > 0.1
    assert float(likelier.mean()) > 0


def test_a_larger_exponent_writes_longer_texts() -> None:
    part, z = decoder("lstm", sharp=1.0), latent(32)
    lengths = [float(part.sample(z, beams=4, length_exponent=exponent).lengths().float().mean()) for exponent in (0.0, 1.0, 3.0)]
    assert lengths == sorted(lengths)
    assert lengths[-1] > lengths[0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_drawn_texts_come_as_often_as_they_are_likely(temperature: float) -> None:
    """All texts of a decoder at once: at temperature 1 their probabilities are exp(−nll), but for what can never be chosen."""
    part, z, n = decoder("lstm", sharp=1.0), latent(), 20_000
    many = pick(z, 1, n)
    found = Counter(map(tuple, written(part.sample(many, Rng((0, "draw"), np.arange(n)), temperature=temperature))))
    expected = drawing_probabilities(part, pick(z, 1), temperature)
    assert sum(expected.values()) == pytest.approx(1, abs=1e-4)
    for text, p in expected.items():
        assert abs(found[text] / n - p) < 5 * (p * (1 - p) / n) ** 0.5 + 1e-4, text


def drawing_probabilities(part: TextDecoder, z: Latent, temperature: float) -> dict[tuple[int, ...], float]:
    """Text → its probability when words are drawn: the product over its words; the word at the last place is always the end."""
    given = tokens(TEXTS)
    with torch.no_grad():
        logits = part.logits(given.ids[:, :-1], given.mask[:, :-1], z.repeat(len(TEXTS)))
    logits[..., [PAD, BOS]] = -torch.inf
    words = (logits / temperature).softmax(-1).gather(-1, given.ids[:, 1:].unsqueeze(-1)).squeeze(-1)
    counted = given.mask[:, 1:].clone()
    counted[:, LONGEST - 2 :] = False
    return {tuple(text): float(p) for text, p in zip(TEXTS, torch.where(counted, words, 1).prod(1), strict=True)}


@pytest.mark.parametrize("top_p", [0.3, 0.6, 0.9, 1.0])
def test_the_nucleus_is_the_smallest_set_of_the_likeliest_that_reaches_top_p(top_p: float) -> None:
    n, p = 20_000, [0.0, 0.0, 0.1, 0.4, 0.05, 0.25, 0.2]
    kept, mass = [], 0.0
    for place in sorted(range(2, VOCABULARY), key=lambda place: -p[place]):
        if mass < top_p - 1e-9:
            kept.append(place)
            mass += p[place]
    logits = torch.tensor(p).log().expand(n, -1)
    found = Counter(choose(logits, Rng((0,), np.arange(n)), 1.0, top_p).tolist())
    assert set(found) == set(kept)
    for place in kept:
        share = p[place] / mass
        assert abs(found[place] / n - share) < 5 * (share * (1 - share) / n) ** 0.5 + 1e-4


class Encoder(ImageEncoder):
    """Gives the latents of `latent`."""

    width = 10

    def forward(self, y: torch.Tensor) -> Latent:
        return latent(len(y))


class Letters(Tokenizer):
    """Ids 3, 4, 5, … as a, b, c, …"""

    size, max_length = VOCABULARY, LONGEST

    def train(self, texts: object) -> None: ...
    def state(self) -> str:
        return ""

    def restore(self, state: str) -> None: ...
    def encode_one(self, text: str) -> list[int]:
        return [ord(letter) - ord("a") + 3 for letter in text]

    def decode_one(self, ids: object) -> str:
        return "".join(chr(i + ord("a") - 3) for i in ids)  # type: ignore[attr-defined]


def test_a_model_writes_with_beams() -> None:
    part = decoder("transformer")
    model = Model({"image_encoder": Encoder(), "text_decoder": part}, {"text_decoder": Letters()}, (1, 4, 4))
    images = np.zeros((ROWS, 4, 4, 1), np.uint8)
    texts = Letters()
    few = texts.decode(part.sample(latent(), beams=3).ids.numpy())
    assert model.caption(images, beams=3) == few
    assert model.caption(images) == texts.decode(part.sample(latent()).ids.numpy())
    questions = ["cd", "b", "", "ddb"]
    assert model.answer(images, questions, beams=3) == texts.decode(part.sample(latent(), prefix=tokens(PREFIX), beams=3).ids.numpy())
    model.beams = 3
    assert model.caption(images) == few
    with pytest.raises(UserError, match="either drawn or searched for"):
        model.caption(images, beams=2, temperature=1.0)


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_a_model_asks_after_a_second_beginning(name: str) -> None:
    """Drawn within a nucleus by default, by numbers of its own; the likeliest question is another text than the likeliest caption."""
    part, texts = decoder(name), Letters()
    model = Model({"image_encoder": Encoder(), "text_decoder": part}, {"text_decoder": texts}, (1, 4, 4))
    images, begun = np.zeros((ROWS, 4, 4, 1), np.uint8), tokens([[BOS, BOS, EOS]] * ROWS)
    rng = Rng((3, "ask"), np.arange(ROWS))
    assert model.ask(images, seed=3) == texts.decode(part.sample(latent(), rng, prefix=begun, temperature=1.0, top_p=0.9).ids.numpy())
    assert model.ask(images, temperature=0.0) == texts.decode(part.sample(latent(), prefix=begun).ids.numpy()) != model.caption(images)
    assert model.ask(images, temperature=0.0, beams=2) == texts.decode(part.sample(latent(), prefix=begun, beams=2).ids.numpy())
