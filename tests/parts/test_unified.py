"""One transformer for both directions: likelihoods against a slow reference, both orders in one pass, caches, masks, bounds, guidance.

Shapes: b batch, t places of a sequence, d width, e width of a head.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ibllm_testing.stand_ins import LetterTokenizer, TinyCodec
from ibllm_unified.autoregressive import AutoregressiveWriter
from ibllm_unified.backbone import UnifiedBackbone
from ibllm_unified.config import (
    BackboneConfig,
    UnifiedConfig,
    UnifiedImageDecoderConfig,
    UnifiedImageEncoderConfig,
    UnifiedTextDecoderConfig,
    UnifiedTextEncoderConfig,
)
from ibllm_unified.flow import FlowWriter
from ibllm_unified.image_decoder import unified_image_decoder
from ibllm_unified.image_encoder import UnifiedImageEncoder
from ibllm_unified.loss import Unified
from ibllm_unified.masked import MaskedWriter
from ibllm_unified.sequence import Piece, grid_coordinates, joined, text_coordinates, visible
from ibllm_unified.text_decoder import UnifiedTextDecoder
from ibllm_unified.text_encoder import UnifiedTextEncoder
from ibllm_unified.writing import Writer, null_condition
from torch import Tensor

from ibllm.plugin import borrowed, concatenate_latents, guided, nucleus
from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.context import Context, ImageTokens
from ibllm_core.interfaces.latent import Latent, Tokens
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.tokenizer import BOS, EOS, PAD
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model

WIDTH, WORDS = 16, 7
WAYS = ("autoregressive", "masked", "flow")


def context(vocabulary: int = 5, rows: int = 2, columns: int = 3, levels: tuple[int, ...] = (), **more: Any) -> Context:
    tokenizer = LetterTokenizer(size=WORDS, max_length=8)
    surroundings = Context(
        width=WIDTH,
        latent=WIDTH,
        tokenizer=tokenizer,
        vocabularies={"text_encoder": WORDS, "text_decoder": WORDS},
        image_tokens=ImageTokens(vocabulary=vocabulary, rows=rows, columns=columns, levels=levels),
        **more,
    )
    torch.manual_seed(0)
    backbone = UnifiedBackbone(BackboneConfig(depth=2, heads=2), surroundings).eval()
    for parameter in backbone.parameters():
        if parameter.dim() == 1:  # norms that are 1 hide where they are left out
            torch.nn.init.normal_(parameter, 1.0, 0.3)
    return attrs.evolve(surroundings, shared={"lm": backbone})


def writer(where: Context | None = None, writes: str = "autoregressive", **options: Any) -> Any:
    return unified_image_decoder(UnifiedImageDecoderConfig(backbone="lm", writes=writes, **options), where or context()).eval()


def reader(where: Context | None = None, **options: Any) -> UnifiedTextDecoder:
    return UnifiedTextDecoder(UnifiedTextDecoderConfig(backbone="lm", **options), where or context()).eval()


def latent(b: int = 3, n: int = 4) -> Latent:
    """Of several lengths, the last one nothing at all; what is masked is large."""
    tokens = torch.randn(b, n, WIDTH, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(n) < torch.tensor([n, 2, 0])[torch.arange(b) % 3, None]
    return Latent(torch.where(mask.unsqueeze(-1), tokens, 50.0), mask, tokens.mean(1))


def pictures(b: int = 3, n: int = 4) -> Latent:
    """An image encoder's latents: every place is there."""
    z = latent(b, n)
    tokens = torch.randn(b, n, WIDTH, generator=torch.Generator().manual_seed(4))
    return Latent(tokens, torch.ones_like(z.mask), z.pooled)


def texts() -> Tokens:
    ids = torch.tensor([[BOS, 5, 6, 4, EOS], [BOS, 4, EOS, PAD, PAD], [BOS, EOS, PAD, PAD, PAD]])
    return Tokens(ids, ids != PAD)


def random_ids(vocabulary: int, b: int, m: int) -> Tensor:
    return torch.randint(vocabulary, (b, m), generator=torch.Generator().manual_seed(2))


def rng(b: int, *words: int | str) -> Rng:
    return Rng((0, *words), np.arange(b))


def everything(vocabulary: int, m: int) -> Tensor:
    """(vocabulary^m m) all there is."""
    return torch.tensor(list(itertools.product(range(vocabulary), repeat=m)))


# The reference: one sequence, one head, one pair of places at a time, in float64.


def turned(x: Tensor, coordinates: list[int], base: tuple[float, float]) -> Tensor:
    """A head's query or key (e) at a place: number j and j + e/2 are a complex one, and are turned."""
    half = len(x) // 2
    quarter = half // 4
    waves = [base[0] ** (-j / (2 * quarter)) for j in range(2 * quarter)] + 2 * [base[1] ** (-j / quarter) for j in range(quarter)]
    directions = [0] * (2 * quarter) + [1] * quarter + [2] * quarter
    z = torch.complex(x[:half], x[half:])
    angles = torch.tensor([wave * coordinates[direction] for wave, direction in zip(waves, directions, strict=True)]).double()
    z = z * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([z.real, z.imag])


def reference(backbone: UnifiedBackbone, x: Tensor, coordinates: Tensor, sees: Callable[[int, int], bool]) -> Tensor:
    """x (t d), coordinates (t 3) → hidden states (t d); place i sees place j where `sees`(i, j)."""
    x, places = x.double(), coordinates.tolist()
    for layer in backbone._layers():
        weights = {name: p.double() for name, p in layer.named_parameters()}
        normed = F.layer_norm(x, (WIDTH,), weights["attention_norm.weight"])
        found = torch.zeros_like(x)
        e = WIDTH // layer.heads
        query, key, value = (normed @ weights["enter.weight"].T).chunk(3, -1)
        for head, i in itertools.product(range(layer.heads), range(len(x))):
            own = slice(head * e, (head + 1) * e)
            seen = [j for j in range(len(x)) if sees(i, j)]
            q = turned(query[i, own], places[i], (1e4, 1e2))
            scores = torch.stack([q @ turned(key[j, own], places[j], (1e4, 1e2)) for j in seen]) / math.sqrt(e)
            found[i, own] = scores.softmax(0) @ value[seen, own]
        x = x + found @ weights["leave.weight"].T
        gate, up = (F.layer_norm(x, (WIDTH,), weights["hidden_norm.weight"]) @ weights["gated.weight"].T).chunk(2, -1)
        x = x + (F.silu(gate) * up) @ weights["down.weight"].T
    return F.layer_norm(x, (WIDTH,), backbone.norm.weight.double())


def before(i: int, j: int) -> bool:
    return j <= i


@torch.no_grad()
def test_a_texts_likelihood_is_that_of_its_words_one_by_one() -> None:
    """Image places see each other; every word is predicted from a sequence that ends before it."""
    part, z, x = reader(), pictures(), texts()
    table, found = part.backbone.embedding.weight.double(), []
    for b in range(3):
        total, length = 0.0, int(x.mask[b].sum())
        for t in range(1, length):
            words = table[x.ids[b, :t]] * math.sqrt(WIDTH)
            row = torch.cat([z.tokens[b].double(), part.backbone.read[None].double(), words])
            places = torch.cat([grid_coordinates(2, 2, row.device), torch.zeros(1, 3, dtype=torch.long), text_coordinates(t, row.device)])
            hidden = reference(part.backbone, row, places, lambda i, j: j <= i or (i < 4 and j < 4))[-1]
            total -= float((table @ hidden).log_softmax(0)[x.ids[b, t]])
        found.append(total)
    torch.testing.assert_close(part.nll(x, z).double(), torch.tensor(found).double(), atol=1e-4, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("vocabulary", "levels"), [(5, ()), (6, (2, 3))], ids=["ids", "digits"])
def test_an_images_likelihood_is_that_of_its_tokens_one_by_one(vocabulary: int, levels: tuple[int, ...]) -> None:
    part, z = writer(context(vocabulary, levels=levels)), latent()
    ids = random_ids(vocabulary, 3, 6)
    digits, found = part.digits.split(ids), []
    for b in range(3):
        total, text = 0.0, z.tokens[b, z.mask[b]].double()
        for m in range(6):
            image = torch.cat([part.backbone.draw[None], part.embedding(digits[b, :m])]).double() + part.positions()[: m + 1].double()
            places = torch.cat([text_coordinates(len(text), text.device), grid_coordinates(2, 3, text.device)[: m + 1]])
            hidden = reference(part.backbone, torch.cat([text, image]), places, before)[-1].float()
            for number, logits in enumerate(part.heads(hidden[None], digits[b, m][None])):
                total -= float(logits.log_softmax(-1)[0, digits[b, m, number]])
        found.append(total)
    torch.testing.assert_close(part.nll(ids, z, rng(3)), torch.tensor(found), atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_masked_tokens_see_the_text_and_each_other() -> None:
    part, z, digits = writer(writes="masked"), latent(), random_ids(6, 3, 6).unsqueeze(-1)
    whole = part.logits(digits, z)[0]
    for b in range(3):
        text = z.tokens[b, z.mask[b]].double()
        image = part.embedding(digits[b]).double() + part.positions().double()
        row = torch.cat([text, part.backbone.draw[None].double(), image])
        n = len(text) + 1
        places = torch.cat([text_coordinates(n - 1, row.device), torch.zeros(1, 3, dtype=torch.long), grid_coordinates(2, 3, row.device)])
        hidden = reference(part.backbone, row, places, lambda i, j, n=n: j <= i or (i >= n and j >= n))[n:].float()  # type: ignore[misc]
        torch.testing.assert_close(whole[b], part.heads(hidden)[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("levels", [(), (2, 2)])
def test_probabilities_of_all_images_sum_to_one(levels: tuple[int, ...]) -> None:
    part, ids = writer(context(4, 1, 2, levels)), everything(4, 2)
    nll = part.nll(ids, latent(1).repeat(len(ids)), rng(len(ids)))
    torch.testing.assert_close(nll.neg().exp().sum(), torch.tensor(1.0), atol=1e-5, rtol=0)


@torch.no_grad()
def test_probabilities_of_all_texts_sum_to_one() -> None:
    """Of two tokens, whatever they are."""
    rest = everything(WORDS, 2)
    ids = torch.cat([torch.full((len(rest), 1), BOS), rest], 1)
    nll = reader().nll(Tokens(ids, torch.ones_like(ids, dtype=torch.bool)), pictures(1).repeat(len(ids)))
    torch.testing.assert_close(nll.neg().exp().sum(), torch.tensor(1.0), atol=1e-5, rtol=0)


# Both orders in one pass.


def both(writes: str, **options: Any) -> tuple[Model, Batch]:
    where = context(8, 4, 4, image_shape=(3, 8, 8))
    parts = {
        "text_encoder": UnifiedTextEncoder(UnifiedTextEncoderConfig(backbone="lm"), where),
        "image_decoder": writer(where, writes, patch=2, **options),
        "image_encoder": UnifiedImageEncoder(UnifiedImageEncoderConfig(backbone="lm", patch=4), where),
        "text_decoder": reader(where, word_dropout=0.3),
        "image_tokenizer": TinyCodec((3, 8, 8), 8),
        "lm": where.shared["lm"],
    }
    y = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Model(parts, {}, (3, 8, 8)), Batch(numbers=np.arange(3), x=texts(), x_out=texts(), y=y)


def _of_two_passes(cycle: Cycle) -> Tensor:
    """Dropout is keyed by the pass that asks for it: the text's has to be the loss's own."""
    draws, reads, z_x, z_y = cycle.model.part("image_decoder"), cycle.model.part("text_decoder"), cycle.z_x, cycle.z_y
    assert isinstance(draws, Writer) and isinstance(reads, UnifiedTextDecoder)
    image = draws.nll(cycle.target, z_x, cycle.rng("image_nll"))
    text = cycle.once("ibllm_unified.both", lambda: reads.nll(cycle.x_out, z_y), "image_decoder")
    return (0.5 * image + 2.0 * text).mean()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("writes", WAYS)
def test_one_pass_gives_what_two_give(writes: str, training: bool) -> None:
    """The weighted sum of the two likelihoods, and its gradients, with condition dropout and word dropout at work in training."""
    model, batch = both(writes, null=0.5)
    model.train(training)
    loss = Unified(UnifiedConfig(image_weight=0.5, text_weight=2.0), Context())
    gradients, values = [], []
    for value_of in (loss, _of_two_passes):
        model.zero_grad()
        value = value_of(Cycle(model, batch))
        value.backward()  # type: ignore[no-untyped-call]
        values.append(value.detach())
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(values[0], values[1], atol=1e-5, rtol=1e-5)
    assert gradients[0].keys() == gradients[1].keys() and any(name.startswith("parts.lm.layers") for name in gradients[0])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-4, rtol=1e-3)


def test_what_is_left_out_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layers see as many places as there are: no padding, nor one order filled up to the other's length."""
    model, batch = both("autoregressive")
    seen: list[tuple[int, ...]] = []
    layer = model.parts["lm"].layers[0]  # type: ignore[index,union-attr]
    layer.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    Unified(UnifiedConfig(), Context())(Cycle(model, batch))
    words, predicted = int(texts().mask.sum()), int(texts().mask[:, :-1].sum())
    assert seen == [(words + 3 * 16 + 3 * (4 + 1) + predicted, WIDTH)]


def test_the_backbone_is_borrowed_once() -> None:
    model, _ = both("masked")
    lm = model.parts["lm"]
    for name in ("text_encoder", "image_decoder", "image_encoder", "text_decoder"):
        assert list(borrowed(model.parts[name]).values()) == [lm]
    assert not list(model.parts["text_encoder"].parameters())
    assert (
        sum(name.endswith("embedding.weight") for name in model.state_dict()) == 2
    )  # words, image tokens: the words' head is their embedding


# Who sees whom.


def test_what_is_left_out_is_last_and_seen_by_none() -> None:
    text = Piece(
        torch.arange(8.0).view(2, 4, 1), torch.tensor([[True, False, True, False], [False] * 4]), text_coordinates(4, torch.device("cpu"))
    )
    image = Piece(torch.full((2, 2, 1), 9.0), torch.ones(2, 2, dtype=torch.bool), grid_coordinates(1, 2, torch.device("cpu")))
    row = joined([text, image], 1)
    assert row.x[0, :4, 0].tolist() == [0, 2, 9, 9] and row.x[1, :2, 0].tolist() == [9, 9]
    assert row.mask.sum(1).tolist() == [4, 2] and [start.tolist() for start in row.starts] == [[0, 0], [2, 0]]
    assert row.coordinates[0, :4].tolist() == [[1, 0, 0], [3, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert row.whole is not None
    assert visible(row.whole)[0, :4, :4].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert not visible(row.whole)[0, :4, 4:].any()


@torch.no_grad()
@pytest.mark.parametrize("writes", WAYS)
def test_padding_and_company_change_nothing(writes: str) -> None:
    """An item alone, without its padding, has the likelihood that it has among longer ones."""
    where = context(image_shape=(3, 8, 12))
    part, z = writer(where, writes), latent()
    y = torch.rand(3, 3, 8, 12) * 2 - 1 if writes == "flow" else random_ids(5, 3, 6)
    whole = part.nll(y, z, rng(3))
    for b, n in enumerate((4, 2, 0)):
        alone = Latent(z.tokens[b : b + 1, :n], z.mask[b : b + 1, :n], z.pooled[b : b + 1])
        found = part.nll(y[b : b + 1], alone, Rng((0,), np.array([b])))
        torch.testing.assert_close(found, whole[b : b + 1], atol=1e-4, rtol=1e-5)
    reads, x, z = reader(where), texts(), pictures()
    whole = reads.nll(x, z)
    for b, t in enumerate((5, 3, 2)):
        found = reads.nll(Tokens(x.ids[b : b + 1, :t], x.mask[b : b + 1, :t]), z.rows(slice(b, b + 1)))
        torch.testing.assert_close(found, whole[b : b + 1], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("writes", WAYS)
def test_condition_dropout_leaves_the_text_out(writes: str) -> None:
    where = context(image_shape=(3, 8, 12))
    part = writer(where, writes, null=0.999).train()
    y = torch.rand(3, 3, 8, 12) * 2 - 1 if writes == "flow" else random_ids(5, 3, 6)
    z = latent()
    with torch.no_grad():
        hidden = part.nll(y, z, rng(3))
        assert torch.equal(hidden, part.nll(y, null_condition(z), rng(3)))
        part.eval()
        assert not torch.isclose(part.nll(y, z, rng(3))[0], part.nll(y, null_condition(z), rng(3))[0])


# Caches.


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"guidance": 3.0, "null": 0.1, "top_p": 0.8, "temperature": 0.7}, {"temperature": 0.0}])
@pytest.mark.parametrize(("vocabulary", "levels"), [(5, ()), (6, (2, 3))], ids=["ids", "digits"])
def test_drawing_with_the_cache_is_drawing_without(options: dict[str, float], vocabulary: int, levels: tuple[int, ...]) -> None:
    part, z = writer(context(vocabulary, levels=levels), **options), latent()
    config, count = part.config, max(len(levels), 1)
    uniform, digits = rng(3).uniform(6, count), torch.zeros(3, 6, count, dtype=torch.long)
    for place, number in itertools.product(range(6), range(count)):
        ids = part.digits.join(digits)
        cond, null = (part.logits(ids, some)[number][:, place] for some in (z, null_condition(z)))
        logits = null + (cond - null) * config.guidance
        digits[:, place, number] = nucleus(logits, uniform[:, place, number], config.temperature, config.top_p)
    assert torch.equal(part.sample(z, rng(3)), part.digits.join(digits))


@torch.no_grad()
def test_steps_through_the_cache_give_the_texts_logits() -> None:
    """Also of an image with places that are not there."""
    part, z, x = reader(), latent(), texts()
    whole, state = part.logits(x.ids, x.mask, z), part.begin(z)
    for place in range(x.ids.shape[1]):
        logits, state = part.step(x.ids[:, place], state)
        there = x.mask[:, place]
        torch.testing.assert_close(logits[there], whole[there, place], atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_passes_over_an_image_after_a_text_read_once(guidance: float) -> None:
    """What the masked decoder and the flow see at every step is what they see of the whole sequence."""
    options = {"guidance": guidance, "null": 0.1 if guidance != 1 else 0.0}
    part, z = writer(writes="masked", steps=1, choice=0.0, temperature=0.0, **options), latent()
    hidden = torch.full((3, 6, 1), 5)
    both = part.logits(hidden.repeat(2, 1, 1), concatenate_latents(z, null_condition(z)))[0]
    assert torch.equal(part.sample(z, rng(3)), guided(both, guidance).argmax(-1))


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"guidance": 2.0, "null": 0.1}, {"solver": "heun", "patch": 2}])
def test_a_flow_of_one_step_draws_the_image_predicted_of_noise(options: dict[str, Any]) -> None:
    where = context(image_shape=(3, 8, 12))
    part, z = writer(where, "flow", steps=1, **options), latent()
    noise, t = part.config.noise_scale * rng(3).fold("noise").normal(3, 8, 12), torch.zeros(3)

    def predicted(z: Latent) -> Tensor:
        seen: list[Tensor] = []
        order = attrs.evolve(part.order(noise, z, rng(3)), finish=seen.append)
        order = attrs.evolve(order, pieces=[*order.pieces[:-1], part._noisy(noise, t)])
        found: Tensor = part._predicted(part.backbone.hidden([order])[0])
        return found

    wanted = guided(torch.cat([predicted(z), predicted(null_condition(z))]), part.config.guidance).clamp(-1, 1)
    torch.testing.assert_close(part.sample(z, rng(3)), wanted, atol=1e-5, rtol=1e-4)


# Bounds.


@torch.no_grad()
def log_p(part: MaskedWriter, known: dict[int, int], z: Latent, place: int, value: int) -> float:
    y = torch.full((part.places,), part.digits.levels[0])
    for i, digit in known.items():
        y[i] = digit
    return float(part.logits(y.view(1, part.places, 1), z)[0].log_softmax(-1)[0, place, value])


@torch.no_grad()
def test_the_masked_bound_is_the_mean_over_all_orders() -> None:
    part, z, m = writer(context(3, 1, 3), "masked"), latent(1), 3
    ids = random_ids(3, 1, m)
    values = ids.flatten().tolist()
    orders = [
        -sum(log_p(part, {i: values[i] for i in order[:done]}, z, place, values[place]) for done, place in enumerate(order))
        for order in itertools.permutations(range(m))
    ]
    draws = part.nll(ids.expand(3000, -1), z.repeat(3000), rng(3000))
    assert abs(float(draws.mean()) - float(np.mean(orders))) < 4 * float(draws.std()) / math.sqrt(3000)
    assert float(np.mean(orders)) >= -math.log(np.mean(np.exp(np.negative(orders)))) - 1e-6


@torch.no_grad()
def test_the_flows_bound_is_that_of_what_it_predicts(monkeypatch: pytest.MonkeyPatch) -> None:
    """y ~ N(0, s²), predicted as well as can be: the bound comes near log(2πe·s²) / 2 a number from above."""
    s, b = 0.4, 20_000
    part = writer(context(image_shape=(1, 1, 1)), "flow", patch=1, noise_scale=1.0)
    assert isinstance(part, FlowWriter)
    at: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(part, "_noisy", lambda x, t: (at.append((x, t)), part._image(torch.zeros(len(x), 1, WIDTH)))[1])
    monkeypatch.setattr(part, "_predicted", lambda hidden: _best(*at[-1], s))
    monkeypatch.setattr(part.backbone, "hidden", lambda orders: [orders[0].pieces[-1].x])
    nll = part.nll(s * rng(b, "data").normal(1, 1, 1), latent(1).repeat(b), rng(b))
    entropy = 0.5 * math.log(2 * math.pi * math.e * s**2)
    assert entropy < float(nll.mean()) + 4 * float(nll.std()) / math.sqrt(b) and float(nll.mean()) < entropy + 0.1


def _best(x: Tensor, t: Tensor, s: float) -> Tensor:
    """E[y | x_t] for y ~ N(0, s²)."""
    t = t[:, None, None, None]
    return t * s**2 / ((1 - t) ** 2 + (t * s) ** 2) * x


# Mistakes.


def _of_two_tokenizers(where: Context) -> object:
    """Of one size, and yet two."""
    UnifiedTextEncoder(UnifiedTextEncoderConfig(backbone="lm"), where)
    return reader(attrs.evolve(where, tokenizer=LetterTokenizer(size=WORDS, max_length=8)))


def test_two_backbones_have_no_loss_of_both_orders() -> None:
    model, batch = both("autoregressive")
    model.parts["text_decoder"] = reader(context())
    with pytest.raises(ValueError, match="name two backbones"):
        Unified(UnifiedConfig(), Context())(Cycle(model, batch))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: writer(guidance=2.0), "guidance = 2: expected 1 where null = 0"),
        (lambda: writer(works_on="latents"), "works_on = 'latents': expected writes = 'flow'"),
        (lambda: writer(context(image_shape=(3, 9, 9)), "flow"), "patch = 4: expected a divisor"),
        (lambda: UnifiedImageEncoderConfig(backbone="lm", patch=3, channels=(4, 4)), "patch = 3: expected a multiple of 2"),
        (lambda: UnifiedBackbone(BackboneConfig(heads=3), context()), "heads = 3: expected a divisor of model.width = 16"),
        (lambda: UnifiedBackbone(BackboneConfig(heads=4), context()), "a multiple of 8"),
        (lambda: UnifiedBackbone(BackboneConfig(), Context(width=WIDTH)), "expected a text encoder or a text decoder beside it"),
        (
            lambda: reader(attrs.evolve(context(), tokenizer=LetterTokenizer(size=WORDS + 1, max_length=8))),
            "expected that of the other text part",
        ),
        (lambda: _of_two_tokenizers(context()), "expected that of the other text part"),
    ],
)
def test_mistakes_are_named(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_every_way_is_a_class_of_its_own() -> None:
    found: list[type[Writer]] = [type(writer(context(image_shape=(3, 8, 12)), writes)) for writes in WAYS]
    assert found == [AutoregressiveWriter, MaskedWriter, FlowWriter]
