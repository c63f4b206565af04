"""Matching and DAMSM equal what is written straight from their equations; mismatches are drawn as promised; pairs are learned."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ibllm_agreement.config import DAMSMConfig, MatchingConfig
from ibllm_agreement.damsm import DAMSM, sentence_scores, word_scores
from ibllm_agreement.matching import Matching, sample_mismatch
from torch import Tensor

from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Latent
from ibllm_core.interfaces.noise import Rng
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model

from .conftest import tokens

MakeCycle = Callable[..., Cycle]
CONTEXT = Context(latents={"text_encoder": 5, "image_encoder": 5})


def latent(b: int, n: int, d: int, seed: int, lengths: list[int] | None = None) -> Latent:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(n) < torch.tensor(lengths or [n] * b)[:, None]
    made = torch.randn(b, n, d, dtype=torch.float64, generator=generator)
    return Latent(made * mask[..., None], mask, torch.randn(b, d, dtype=torch.float64, generator=generator))


def score_by_hand(words: Tensor, regions: Tensor, g1: float, g2: float) -> float:
    """R(Q, D) of one image, regions (n e), and one caption, words (t e): AttnGAN, eqs. 7–10, one number at a time."""
    t, n, e = len(words), len(regions), words.shape[1]
    words, regions = words.detach(), regions.detach()
    s = [[sum(float(words[i][k] * regions[j][k]) for k in range(e)) for j in range(n)] for i in range(t)]
    normed = [[math.exp(s[i][j]) / sum(math.exp(s[k][j]) for k in range(t)) for j in range(n)] for i in range(t)]
    total = 0.0
    for i in range(t):
        weights = [math.exp(g1 * normed[i][j]) for j in range(n)]
        context = [sum(weights[j] / sum(weights) * float(regions[j][k]) for j in range(n)) for k in range(e)]
        dot = sum(context[k] * float(words[i][k]) for k in range(e))
        sizes = math.sqrt(sum(c * c for c in context)) * math.sqrt(sum(float(w) ** 2 for w in words[i]))
        total += math.exp(g2 * dot / sizes)
    return math.log(total ** (1 / g2))


def loss_by_hand(scores: list[list[float]], g3: float) -> float:
    """L₁ + L₂ of a table of scores, image (row) × caption (column): eqs. 11–13, as means."""
    b, total = len(scores), 0.0
    for i in range(b):
        total -= math.log(math.exp(g3 * scores[i][i]) / sum(math.exp(g3 * scores[i][j]) for j in range(b)))
        total -= math.log(math.exp(g3 * scores[i][i]) / sum(math.exp(g3 * scores[j][i]) for j in range(b)))
    return total / b


def test_word_scores_are_the_equations(device: torch.device) -> None:
    words, regions = latent(3, 4, 5, 0, [4, 2, 3]), latent(3, 6, 5, 1, [6, 5, 6])
    found = word_scores(words, regions, 4.0, 5.0)
    for i in range(3):
        for j in range(3):
            own = score_by_hand(words.tokens[i][words.mask[i]], regions.tokens[j][regions.mask[j]], 4.0, 5.0)
            assert float(found[i, j]) == pytest.approx(own, rel=1e-9)


def test_damsm_is_the_sum_of_both_parts_in_both_directions(cycle: MakeCycle) -> None:
    made = cycle()
    loss = DAMSM(DAMSMConfig(width=0), CONTEXT).double()
    words, regions = made.z_x, made.z_y
    by_word = [
        [score_by_hand(words.tokens[i][words.mask[i]], regions.tokens[j][regions.mask[j]], 4.0, 5.0) for i in range(3)] for j in range(3)
    ]
    by_sentence = [[float(F.cosine_similarity(words.pooled[i], regions.pooled[j], dim=0).detach()) for i in range(3)] for j in range(3)]
    assert loss(made).item() == pytest.approx(loss_by_hand(by_word, 10.0) + loss_by_hand(by_sentence, 10.0), rel=1e-5)
    assert not list(loss.parameters())


def test_padding_changes_no_score() -> None:
    words, regions = latent(2, 5, 4, 0, [3, 2]), latent(2, 4, 4, 1, [4, 3])
    dirty = [Latent(torch.where(z.mask[..., None], z.tokens, 99.0), z.mask, z.pooled) for z in (words, regions)]
    torch.testing.assert_close(word_scores(*dirty, 4.0, 5.0), word_scores(words, regions, 4.0, 5.0))


def test_damsm_of_drawn_images_teaches_the_drawer(cycle: MakeCycle, model: Model) -> None:
    made = cycle()
    loss = DAMSM(DAMSMConfig(width=3, images="generated"), CONTEXT).double()
    loss(made).backward()
    assert model.part("image_decoder").map.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())
    assert "image_decoder.differentiable_draw" in DAMSMConfig(images="generated").needs()


def test_damsm_without_a_common_space_wants_one_width() -> None:
    with pytest.raises(ValueError, match="width = 0: expected encoders of one width, but text_encoder gives 5, image_encoder 7"):
        DAMSM(DAMSMConfig(width=0), Context(latents={"text_encoder": 5, "image_encoder": 7}))


def test_sentence_scores_are_cosines() -> None:
    words, regions = latent(3, 2, 4, 0), latent(3, 2, 4, 1)
    torch.testing.assert_close(sentence_scores(words, regions), F.cosine_similarity(words.pooled[:, None], regions.pooled, dim=2))


def test_mismatches_follow_the_softmax_of_what_is_left() -> None:
    logits = torch.tensor([[3.0, 0.5, -1.0, 1.0]])
    excluded = torch.tensor([[True, False, False, False]])
    rows = 20_000
    found = sample_mismatch(logits.expand(rows, 4), excluded.expand(rows, 4), Rng((0,), np.arange(rows)))
    expected = logits.masked_fill(excluded, -torch.inf).softmax(1)[0]
    shares = torch.bincount(found, minlength=4) / rows
    assert shares[0] == 0
    # Four standard deviations of a share of 20 000 draws are at most 0.0142.
    torch.testing.assert_close(shares, expected, rtol=0, atol=0.0142)


def test_matching_is_the_cross_entropy_over_pairs_and_mismatches(cycle: MakeCycle) -> None:
    made = cycle()
    torch.manual_seed(0)
    loss = Matching(MatchingConfig(width=8, depth=1, heads=2), CONTEXT).double()
    similarity, same, rng = loss.similarity(made.z_x, made.z_y), torch.eye(3, dtype=torch.bool), made.rng("compare")
    texts, images = (
        sample_mismatch(similarity.T, same, rng.fold("text")).tolist(),
        sample_mismatch(similarity, same, rng.fold("image")).tolist(),
    )
    assert all(texts[i] != i and images[i] != i for i in range(3))
    total = 0.0
    for i in range(3):
        for x, y, true in ((i, i, 1), (texts[i], i, 0), (i, images[i], 0)):
            logit = float(loss.match(made.z_x.rows(torch.tensor([x])), made.z_y.rows(torch.tensor([y]))).detach())
            total -= math.log(1 / (1 + math.exp(-logit if true else logit)))
    assert loss(made).item() == pytest.approx(total / 9, rel=1e-5)


def test_matching_trains_all_its_parameters_and_similarity_none_of_the_encoders(cycle: MakeCycle, model: Model) -> None:
    loss = Matching(MatchingConfig(width=8, depth=1, heads=2), CONTEXT).double()
    loss(cycle()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())
    assert all(p.grad is not None for p in model.part("text_encoder").parameters())
    made = cycle()
    assert torch.autograd.grad(loss.similarity(made.z_x, made.z_y).sum(), [made.z_x.pooled], allow_unused=True) == (None,)


@pytest.mark.parametrize("mismatches", ["similar", "any"])
def test_captions_of_the_same_words_are_no_mismatch(model: Model, batch: Batch, mismatches: str) -> None:
    loss = Matching(MatchingConfig(width=8, depth=1, heads=2, mismatches=mismatches), CONTEXT).double()

    def value(rows: list[list[int]]) -> float:
        assert batch.y is not None
        x = tokens(rows)
        made = Cycle(model, attrs.evolve(batch, x=x, x_out=x, y=batch.y[: len(rows)], numbers=np.arange(len(rows))))
        positives = F.softplus(-loss.match(made.z_x, made.z_y)).mean()
        assert loss(made).isfinite()
        return float((loss(made) - positives).detach())

    assert value([[1, 4, 2]]) == pytest.approx(0, abs=1e-6)
    assert value([[1, 4, 2], [1, 4, 2]]) == pytest.approx(0, abs=1e-6)
    assert abs(value([[1, 4, 2], [1, 5, 2]])) > 1e-4


def test_matching_learns_which_pairs_belong_together(model: Model, batch: Batch) -> None:
    torch.manual_seed(0)
    loss = Matching(MatchingConfig(width=16, depth=1, heads=2, mismatches="any"), CONTEXT).double()
    optimizer = torch.optim.Adam([*loss.parameters(), *model.parameters()], lr=1e-2)
    for step in range(120):
        made = Cycle(model, batch, key=(0, step))
        optimizer.zero_grad()
        loss(made).backward()
        optimizer.step()
    made = Cycle(model, batch)
    logits = torch.stack([loss.match(made.z_x, made.z_y.roll(by)) for by in range(3)])
    assert float(logits[0].min()) > 2 and float(logits[1:].max()) < -2, "of nine pairs the three that belong together are told"
