"""Several captions of an image, and several images of a caption, belong together: in every loss that compares, however the batch is shared."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from ibllm_adversarial.loss import mismatched_latent
from ibllm_agreement.config import DAMSMConfig, MatchingConfig
from ibllm_agreement.damsm import DAMSM, sentence_scores, word_scores
from ibllm_agreement.matching import Matching
from ibllm_objectives.config import ContrastiveConfig, ContrastiveSigmoidConfig
from ibllm_objectives.contrastive import Contrastive, ContrastiveSigmoid
from torch import Tensor, nn

from ibllm.plugin import belonging, positives
from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Tokens
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model
from ibllm_core.model.shares import Shares

CONTEXT = Context(latents={"text_encoder": 5, "image_encoder": 5})
#: Captions (as words) and the image that each is of; 2 and 5 have the same words, of two images.
WORDS = [[4, 5], [6], [7, 8], [4, 6], [5], [7, 8]]
GROUPS = [0, 0, 1, 2, 3, 3]
#: Whether caption i is of image j, by hand: "7 8" is a caption of image 1 and of image 3.
RIGHT = torch.tensor(
    [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 1, 1],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1, 1],
        [0, 0, 1, 0, 1, 1],
    ],
    dtype=torch.bool,
)
LOSSES: dict[str, Callable[[], nn.Module]] = {
    "contrastive": lambda: Contrastive(ContrastiveConfig(width=3), CONTEXT),
    "contrastive_sigmoid": lambda: ContrastiveSigmoid(ContrastiveSigmoidConfig(width=3), CONTEXT),
    "damsm": lambda: DAMSM(DAMSMConfig(width=3), CONTEXT),
    "matching": lambda: Matching(MatchingConfig(width=8, depth=1, heads=2), CONTEXT),
}


def batch_of(rows: slice = slice(None), groups: bool = True) -> Batch:
    """Captions as `WORDS` and an image a group, the same for all captions of it."""
    longest = max(len(words) for words in WORDS[rows]) + 2
    ids = torch.tensor([[1, *words, 2] + [0] * (longest - 2 - len(words)) for words in WORDS[rows]])
    pictures = torch.rand(4, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    x = Tokens(ids, ids != 0)
    given = torch.tensor(GROUPS[rows]) if groups else None
    return Batch(numbers=np.arange(len(WORDS))[rows], x=x, x_out=x, y=pictures[GROUPS[rows]], groups=given)


def test_a_caption_is_of_its_image_and_of_every_image_of_its_words(model: Model) -> None:
    assert torch.equal(positives(belonging(Cycle(model, batch_of()))), RIGHT)
    alone = positives(belonging(Cycle(model, batch_of(groups=False))))
    expected = torch.eye(6, dtype=torch.bool)
    expected[2, 5] = expected[5, 2] = True
    assert torch.equal(alone, expected), "where data do not say, each item is of an image of its own"


def by_hand(scores: Tensor) -> float:
    """−1/b Σ over rows of the mean of log softmax over all that is right."""
    rows = [scores[i] for i in range(6)]
    picked = [[float(row[j] - torch.logsumexp(row, 0)) for j in range(6) if RIGHT[i, j]] for i, row in enumerate(rows)]
    return -sum(sum(some) / len(some) for some in picked) / 6


def columns_by_hand(scores: Tensor) -> float:
    rows = [scores[:, j] for j in range(6)]
    picked = [[float(row[i] - torch.logsumexp(row, 0)) for i in range(6) if RIGHT[i, j]] for j, row in enumerate(rows)]
    return -sum(sum(some) / len(some) for some in picked) / 6


def test_contrastive_and_damsm_share_equally_among_what_is_right(model: Model) -> None:
    made = Cycle(model, batch_of())
    contrastive = Contrastive(ContrastiveConfig(width=3), CONTEXT).double()
    scores = (contrastive.text_point(made.z_x) @ contrastive.image_point(made.z_y).T / 0.07).detach()
    assert contrastive(made).item() == pytest.approx((by_hand(scores) + columns_by_hand(scores)) / 2, rel=1e-5)
    damsm = DAMSM(DAMSMConfig(width=3), CONTEXT).double()
    words, regions, _ = damsm.represent(made)
    both = [10 * some.detach() for some in (word_scores(words, regions, 4.0, 5.0), sentence_scores(words, regions))]
    config = damsm.config
    assert (config.scale, config.word_sharpness, config.word_pooling) == (10.0, 4.0, 5.0)
    assert damsm(made).item() == pytest.approx(sum(by_hand(some) + columns_by_hand(some) for some in both), rel=1e-5)


def test_pairwise_sigmoid_has_a_plus_for_all_that_is_right(model: Model) -> None:
    made, loss = Cycle(model, batch_of()), ContrastiveSigmoid(ContrastiveSigmoidConfig(width=3), CONTEXT).double()
    logits = (loss.text_point(made.z_x) @ loss.image_point(made.z_y).T * 10 - 10).detach()
    total = sum(math.log1p(math.exp(-float(logits[i, j]) if RIGHT[i, j] else float(logits[i, j]))) for i in range(6) for j in range(6))
    assert loss(made).item() == pytest.approx(total / 6, rel=1e-5)


def test_a_mismatch_is_never_of_the_image(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = Matching(MatchingConfig(width=8, depth=1, heads=2, mismatches="any"), CONTEXT).double()
    seen: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(loss, "match", lambda z_x, z_y: seen.append((z_x.tokens, z_y.tokens)) or z_x.pooled.sum(1))
    for step in range(40):
        made = Cycle(model, batch_of(), key=(step,))
        loss(made)
        texts, images = seen.pop()
        at = [
            [int((some.tokens == row).flatten(1).all(1).nonzero()[0]) for row in rows]
            for some, rows in ((made.z_x, texts), (made.z_y, images))
        ]
        assert all(not RIGHT[i, j] for i, j in list(zip(*at, strict=True))[6:])


def test_a_critics_mismatch_is_the_last_caption_before_that_is_not_of_the_image(model: Model) -> None:
    made = Cycle(model, batch_of())
    wrong = mismatched_latent(made).pooled
    # Image 0 of items 0 and 1: from item 0 back are 5 (words of images 1 and 3); from 1 back 0 is of the image, 5 is not.
    expected = made.z_x.pooled[[5, 5, 1, 2, 3, 3]]
    torch.testing.assert_close(wrong, expected, rtol=0, atol=0)
    plain = mismatched_latent(Cycle(model, attrs.evolve(batch_of(slice(0, 3)), groups=None)))
    torch.testing.assert_close(plain.pooled, made.z_x.pooled[[2, 0, 1]], rtol=0, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_shares_change_nothing(model: Model, name: str) -> None:
    torch.manual_seed(0)
    loss: Any = LOSSES[name]().double()

    def gradients(batches: list[Batch]) -> tuple[float, list[Tensor]]:
        model.zero_grad()
        loss.zero_grad()
        shares, values = Shares(model, batches, {name: loss}), []
        for made in shares.cycles():
            value = made.value(name)
            (value / len(batches)).backward()
            values.append(value.item())
        found = [p.grad.clone() for module in (model, loss) for p in module.parameters() if p.grad is not None]
        return sum(values) / len(values), found

    whole, whole_gradients = gradients([batch_of()])
    cut, cut_gradients = gradients([batch_of(slice(0, 2)), batch_of(slice(2, 4)), batch_of(slice(4, 6))])
    assert cut == pytest.approx(whole, rel=1e-9)
    for a, b in zip(whole_gradients, cut_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
