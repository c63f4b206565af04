"""The decoders over image tokens: likelihoods against brute force, caching, guidance, schedules, and that something is learned."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ibllm_testing.stand_ins import LetterTokenizer, TinyCodec
from ibllm_tokens.quantisers import FiniteScalarQuantiser
from ibllm_transformer.config import CaptionImageNLLConfig, MaskGITConfig, TransformerTextEncoderConfig, VQTransformerConfig
from ibllm_transformer.layers import null_condition
from ibllm_transformer.loss import CaptionImageNLL
from ibllm_transformer.maskgit import MaskGIT
from ibllm_transformer.text_encoder import TransformerTextEncoder
from ibllm_transformer.vq_transformer import VQTransformer
from torch import Tensor

from ibllm.blocks.guidance import concatenate_latents, guided
from ibllm.plugin import ChainedDigitHeads, Digits, gumbel, k_smallest, mask_schedule, nucleus
from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.context import Context, ImageTokens
from ibllm_core.interfaces.latent import Latent, Tokens
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.tokenizer import BOS, EOS, PAD, UNK
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model

WIDTH, LATENT, WORDS = 16, 12, 9


def context(vocabulary: int = 5, rows: int = 2, columns: int = 3, levels: tuple[int, ...] = ()) -> Context:
    return Context(
        width=WIDTH,
        latent=LATENT,
        tokenizer=LetterTokenizer(size=WORDS, max_length=8),
        vocabularies={"text_encoder": WORDS},
        image_tokens=ImageTokens(vocabulary=vocabulary, rows=rows, columns=columns, levels=levels),
    )


def causal(where: Context | None = None, **options: Any) -> VQTransformer:
    torch.manual_seed(0)
    return VQTransformer(VQTransformerConfig(**{"depth": 2, **options}), where or context()).eval()


def masked(where: Context | None = None, **options: Any) -> MaskGIT:
    torch.manual_seed(0)
    return MaskGIT(MaskGITConfig(**{"depth": 2, **options}), where or context()).eval()


def latent(b: int = 3, n: int = 4) -> Latent:
    tokens = torch.randn(b, n, LATENT, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(n) < torch.tensor([n, 2, 1])[torch.arange(b) % 3, None]
    return Latent(tokens * mask.unsqueeze(-1), mask, tokens.mean(1))


def random_ids(vocabulary: int, b: int, m: int) -> Tensor:
    return torch.randint(vocabulary, (b, m), generator=torch.Generator().manual_seed(2))


def rng(b: int, *words: int | str) -> Rng:
    return Rng((0, *words), np.arange(b))


def everything(vocabulary: int, m: int) -> Tensor:
    """(vocabulary^m m) all there is."""
    return torch.tensor(list(itertools.product(range(vocabulary), repeat=m)))


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_the_nucleus_is_drawn_from_as_often_as_it_is_likely(top_p: float) -> None:
    """Holtzman et al. 2020, eq. 2 and 3: of .1, .4, .0, .3, .2 the nucleus of .7 holds .4 and .3."""
    p = torch.tensor([0.1, 0.4, 0.0, 0.3, 0.2])
    wanted = p if top_p == 1 else torch.tensor([0.0, 4 / 7, 0.0, 3 / 7, 0.0])
    uniform = (torch.arange(7000) + 0.5) / 7000
    drawn = nucleus(2 * p.log().expand(7000, -1), uniform, 2.0, top_p - 1e-4 if top_p < 1 else top_p)
    torch.testing.assert_close(torch.bincount(drawn, minlength=5) / 7000, wanted, atol=1e-3, rtol=0)
    assert nucleus(p.log(), torch.tensor(0.99), 0.0, top_p) == 1


# The causal one.


#: Tokens without digits and with some: name → vocabulary and levels.
KINDS = {"ids": (5, ()), "digits": (6, (2, 3))}
kinds = pytest.mark.parametrize(("vocabulary", "levels"), KINDS.values(), ids=KINDS)


@torch.no_grad()
@kinds
def test_steps_through_the_cache_add_up_to_the_likelihood(vocabulary: int, levels: tuple[int, ...]) -> None:
    part, z, ids = causal(context(vocabulary, levels=levels)), latent(), random_ids(vocabulary, 3, 6)
    digits, whole = part.digits.split(ids), part.logits(ids, z)
    x, cache = part.begin(z)
    total = torch.zeros(3)
    for place in range(6):
        for number, logits in enumerate(part.heads(x, digits[:, place])):
            torch.testing.assert_close(logits, whole[number][:, place], atol=1e-5, rtol=0)
            total -= logits.log_softmax(-1).gather(1, digits[:, place, number, None]).squeeze(1)
        if place < 5:
            x = part.step(digits[:, place], cache)
    torch.testing.assert_close(part.nll(ids, z, rng(3)), total, atol=1e-5, rtol=0)


@torch.no_grad()
@kinds
@pytest.mark.parametrize("options", [{"guidance": 1.0}, {"guidance": 3.0, "top_p": 0.8, "temperature": 0.7}, {"temperature": 0.0}])
def test_drawing_with_the_cache_is_drawing_without(options: dict[str, float], vocabulary: int, levels: tuple[int, ...]) -> None:
    part, z = causal(context(vocabulary, levels=levels), **options), latent()
    config, count = part.config, max(len(levels), 1)
    uniform, digits = rng(3).uniform(6, count), torch.zeros(3, 6, count, dtype=torch.long)
    for place, number in itertools.product(range(6), range(count)):
        ids = part.digits.join(digits)
        cond = part.logits(ids, z)[number][:, place]
        null = part.logits(ids, Latent(z.tokens, torch.zeros_like(z.mask), z.pooled))[number][:, place]
        logits = null + (cond - null) * config.guidance
        digits[:, place, number] = nucleus(logits, uniform[:, place, number], config.temperature, config.top_p)
    assert torch.equal(part.sample(z, rng(3)), part.digits.join(digits))


@torch.no_grad()
@pytest.mark.parametrize("levels", [(), (2, 2), (2, 1, 2)])
def test_probabilities_of_all_images_sum_to_one(levels: tuple[int, ...]) -> None:
    """Over all tokens, which are all combinations of digits where ids have some."""
    part, ids = causal(context(4, 1, 2, levels)), everything(4, 2)
    nll = part.nll(ids, latent(1).repeat(len(ids)), rng(len(ids)))
    torch.testing.assert_close(nll.neg().exp().sum(), torch.tensor(1.0), atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_null_condition_hides_the_text_from_the_image_only() -> None:
    part, ids = causal(caption=True, null=0.999), random_ids(5, 3, 6)
    text = Tokens(torch.tensor([[BOS, 5, 6, EOS]] * 3), torch.ones(3, 4, dtype=torch.bool))
    z = Latent(latent().tokens, text.mask, latent().pooled)
    other = Latent(z.tokens.flip(0), z.mask, z.pooled)
    words, image = part.caption_nll(text, ids, z, rng(3))
    part.train()
    assert torch.equal(part.nll(ids, z, rng(3)), part.nll(ids, other, rng(3)))
    hidden_words, hidden_image = part.caption_nll(text, ids, z, rng(3))
    assert torch.equal(hidden_words, words)
    assert not torch.isclose(hidden_image, image).any()


@torch.no_grad()
def test_places_put_last_are_places_masked() -> None:
    """Without a mask, with what the image does not see at the end, it reads what it reads with a mask: padding, holes, and nothing to see at all."""
    part, z, ids = causal(), latent(5, 4), random_ids(5, 5, 6)
    z.mask[3] = torch.tensor([False, True, False, True])
    read = z.mask.clone()
    read[4] = False
    digits = part.digits.split(ids)
    torch.testing.assert_close(part._read(digits, z, read), part._read_both(digits, z, read)[1], atol=1e-5, rtol=0)


def test_causal_attention_takes_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """In training, where the fastest kernels take none; other attention has a bias that is made once for all layers."""
    part, z, ids = causal(null=0.5).train(), latent(), random_ids(5, 3, 6)
    seen: list[tuple[Tensor | None, bool]] = []
    attend = F.scaled_dot_product_attention

    def looked(*given: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        seen.append((attn_mask, is_causal))
        return attend(*given, attn_mask=attn_mask, is_causal=is_causal)

    monkeypatch.setattr(F, "scaled_dot_product_attention", looked)
    part.nll(ids, z, rng(3)).sum().backward()
    text = torch.full((2, 4), UNK), torch.ones(2, 4, dtype=torch.bool)
    coder = TransformerTextEncoder(TransformerTextEncoderConfig(width=LATENT, depth=2, heads=2, causal=True), context())
    coder(Tokens(*text))
    assert seen == [(None, True)] * 4
    seen.clear()
    masked().nll(ids, z, rng(3))
    biases = [bias for bias, causal in seen if not causal and bias is not None]
    assert len(seen) == 4 and len(biases) == 2 and biases[0] is biases[1] and biases[0].dtype == torch.float32


@torch.no_grad()
def test_text_and_image_are_one_distribution() -> None:
    """The probabilities of all ways to go on for two tokens sum to 1, and so do those of all images after one of them."""
    where = context(3, 1, 2)
    part = causal(where, caption=True)
    coder = TransformerTextEncoder(TransformerTextEncoderConfig(width=LATENT, depth=1, heads=2, causal=True), where).eval()
    images = everything(3, 2)
    rest = everything(WORDS, 2)
    ids = torch.cat([torch.full((len(rest), 1), BOS), rest], 1)
    texts = Tokens(ids, torch.ones_like(ids, dtype=torch.bool))
    z = coder(texts)
    words, _ = part.caption_nll(texts, images[:1].expand(len(ids), -1), z, rng(len(ids)))
    torch.testing.assert_close(words.neg().exp().sum(), torch.tensor(1.0), atol=1e-5, rtol=0)
    one = Latent(z.tokens[7:8], z.mask[7:8], z.pooled[7:8]).repeat(len(images))
    same = Tokens(ids[7:8].expand(len(images), -1), texts.mask[7:8].expand(len(images), -1))
    _, image = part.caption_nll(same, images, one, rng(len(images)))
    torch.testing.assert_close(image.neg().exp().sum(), torch.tensor(1.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(image, part.nll(images, one, rng(len(images))), atol=1e-5, rtol=0)


def test_a_latent_of_other_places_than_the_text_is_refused() -> None:
    text = Tokens(torch.tensor([[BOS, 5, EOS]]), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="4 places for 3 tokens"):
        causal(caption=True).caption_nll(text, random_ids(5, 1, 6), latent(1), rng(1))


def test_caption_image_nll_weighs_means_over_tokens() -> None:
    where = context(8, 4, 4)
    coder = TransformerTextEncoder(TransformerTextEncoderConfig(width=LATENT, depth=0), where).eval()
    part, tokenizer = causal(where, caption=True), TinyCodec((3, 8, 8), 8)
    model = Model({"text_encoder": coder, "image_decoder": part, "image_tokenizer": tokenizer}, {}, (3, 8, 8))
    ids = torch.tensor([[BOS, 5, 6, EOS], [BOS, 7, EOS, PAD]])
    x, y = Tokens(ids, ids != PAD), torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    value = CaptionImageNLL(CaptionImageNLLConfig(image_weight=3.0), where)(Cycle(model, Batch(numbers=np.arange(2), x=x, y=y)))
    words, image = part.caption_nll(x, tokenizer.encode(y), coder(x), rng(2))
    wanted = sum((words[i] / count + 3 * image[i] / 16) / 4 for i, count in enumerate((3, 2))) / 2
    torch.testing.assert_close(value, wanted, atol=1e-6, rtol=0)


def test_digits_are_the_codecs() -> None:
    """Ids of finite scalar quantisation and back: the digits of an id are the levels of its numbers."""
    levels = (3, 4, 5)
    quantiser, digits = FiniteScalarQuantiser(levels), Digits(ImageTokens(vocabulary=60, rows=1, columns=1, levels=levels), True)
    ids = torch.arange(60)
    assert quantiser.levels == levels and torch.equal(digits.join(digits.split(ids)), ids)
    steps = torch.tensor([1.0, 2.0, 2.0])  # half of the levels each, by which FSQ scales them to [−1, 1]
    torch.testing.assert_close(quantiser.vectors(ids) * steps + steps, digits.split(ids).float())
    whole = Digits(ImageTokens(vocabulary=60, rows=1, columns=1, levels=levels), False)
    assert whole.levels == (60,) and torch.equal(whole.split(ids), ids.unsqueeze(-1))


def test_a_digit_depends_on_those_before_it_in_its_token_alone() -> None:
    torch.manual_seed(0)
    heads, x = ChainedDigitHeads((2, 3, 4), WIDTH), torch.randn(1, WIDTH)
    one, other = (heads(x, torch.tensor([[0, digit, 0]])) for digit in (1, 2))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1]) and not torch.allclose(one[2], other[2])


# The masked one.


@torch.no_grad()
def log_p(part: MaskGIT, known: dict[int, int], z: Latent, place: int, value: int) -> float:
    """log p of one digit, counted through tokens and their digits, given those that are `known`."""
    levels = part.digits.levels
    y = torch.tensor(levels).repeat(part.places)
    for i, digit in known.items():
        y[i] = digit
    token, number = divmod(place, len(levels))
    return float(part.logits(y.view(1, part.places, -1), z)[number].log_softmax(-1)[0, token, value])


def in_order(part: MaskGIT, ids: Tensor, z: Latent, order: tuple[int, ...]) -> float:
    """−log p of writing the digits of the tokens (1 m) one by one in an order."""
    values = part.digits.split(ids).flatten().tolist()
    return -sum(log_p(part, {i: values[i] for i in order[:done]}, z, place, values[place]) for done, place in enumerate(order))


@torch.no_grad()
@pytest.mark.parametrize(("places", "vocabulary", "levels"), [(3, 3, ()), (2, 6, (2, 3))])
def test_the_bound_is_the_mean_over_all_orders(places: int, vocabulary: int, levels: tuple[int, ...]) -> None:
    """Every mask of k of m digits, each k as likely: the expectation of nll by brute force, by chance, and as the orders' mean, which is a bound."""
    where = context(vocabulary, 1, places, levels)
    part, z, m = masked(where), latent(1), places * max(len(levels), 1)
    ids = random_ids(vocabulary, 1, places)
    values = part.digits.split(ids).flatten().tolist()
    orders = [in_order(part, ids, z, order) for order in itertools.permutations(range(m))]
    expectation = 0.0
    for k in range(1, m + 1):
        for hidden in itertools.combinations(range(m), k):
            known = {i: values[i] for i in range(m) if i not in hidden}
            cost = -sum(log_p(part, known, z, place, values[place]) for place in hidden)
            expectation += cost * m / k / math.comb(m, k) / m
    assert expectation == pytest.approx(np.mean(orders), abs=1e-5)
    draws = part.nll(ids.expand(4000, -1), z.repeat(4000), rng(4000))
    assert abs(float(draws.mean()) - expectation) < 4 * float(draws.std()) / math.sqrt(4000)
    # The model that draws an order first: its likelihood is the mean of the orders', and the bound is above.
    assert expectation >= -math.log(np.mean(np.exp(np.negative(orders)))) - 1e-6


@torch.no_grad()
@pytest.mark.parametrize(("vocabulary", "levels", "order"), [(3, (), (1, 0)), (6, (2, 3), (2, 1, 3, 0))])
def test_every_order_is_a_distribution(vocabulary: int, levels: tuple[int, ...], order: tuple[int, ...]) -> None:
    part, z = masked(context(vocabulary, 1, 2, levels)), latent(1)
    total = sum(math.exp(-in_order(part, ids.unsqueeze(0), z, order)) for ids in everything(vocabulary, 2))
    assert total == pytest.approx(1, abs=1e-5)


def test_the_schedule_is_a_cosine_that_ends_with_nothing_masked() -> None:
    assert mask_schedule(64, 4) == [59, 45, 24, 0]
    assert mask_schedule(64, 1) == [0]
    assert mask_schedule(4, 8) == [3, 2, 1, 0]
    assert mask_schedule(1, 8) == [0]


def test_the_least_confident_are_masked_again() -> None:
    assert k_smallest(torch.tensor([[0.3, 0.1, 0.2], [5.0, 4.0, 6.0]]), 2).tolist() == [[False, True, True], [True, True, False]]


def test_gumbel_noise_has_its_mean_and_variance() -> None:
    drawn = gumbel(rng(1000).uniform(50)).double()
    assert torch.isfinite(gumbel(torch.zeros(1))).all()
    assert float(drawn.mean()) == pytest.approx(0.5772, abs=0.02)
    assert float(drawn.var()) == pytest.approx(math.pi**2 / 6, abs=0.05)


@torch.no_grad()
def test_one_step_draws_each_token_by_itself() -> None:
    """In a single step nothing is masked again, so each token follows its own marginal given nothing."""
    part, z, b = masked(steps=1, guidance=1.0), latent(1), 4000
    drawn = part.sample(z.repeat(b), rng(b))
    p = part.logits(torch.full((1, 6, 1), 5), z)[0].softmax(-1)[0]
    found = torch.nn.functional.one_hot(drawn, 5).double().mean(0)
    torch.testing.assert_close(found, p.double(), atol=0.035, rtol=0)


# Both.


def test_guidance_moves_from_the_null_condition_past_the_condition() -> None:
    cond, null = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    both = torch.cat([cond, null])
    torch.testing.assert_close(guided(both, 3.0), null + (cond - null) * 3.0)
    torch.testing.assert_close(guided(both, 1.0), cond)
    torch.testing.assert_close(guided(both, 0.0), null)
    z = latent()
    assert not concatenate_latents(z, null_condition(z)).mask[3:].any()


@pytest.mark.parametrize("make", [causal, masked])
def test_guidance_of_a_condition_never_hidden_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"guidance = 3.0: expected 1 where null = 0"):
        make(null=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("make", [causal, masked])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_two_conditions_draw_their_own_images(make: Any, guidance: float) -> None:
    """Each condition has two images, as likely; half of their tokens are common to all. After training, images drawn are such."""
    where = context(6, 2, 2)
    part = make(where, guidance=guidance, null=0.2 if guidance != 1 else 0.0).train()
    images = torch.tensor([[[0, 1, 2, 3], [0, 1, 3, 2]], [[0, 1, 4, 5], [0, 1, 5, 4]]])
    condition = torch.arange(32) % 2
    tokens = torch.randn(2, 1, LATENT, generator=torch.Generator().manual_seed(3))[condition]
    z = Latent(tokens, torch.ones(32, 1, dtype=torch.bool), tokens[:, 0])
    optimizer = torch.optim.Adam(part.parameters(), lr=5e-3)
    for step in range(150):
        draws = rng(32, step)
        ids = images[condition, draws.integers(2)]
        loss = part.nll(ids, z, draws).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    part.eval()
    drawn = part.sample(z.repeat(8), rng(256, "drawn"))
    own = (drawn.unsqueeze(1) == images[condition.repeat_interleave(8)]).all(-1)
    assert own.any(-1).float().mean() > 0.9
    for one in (0, 1):
        share = own[condition.repeat_interleave(8) == one].float().mean(0)
        assert share.min() > 0.25, "both images of a condition are drawn"
