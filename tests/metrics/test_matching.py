"""Captions and images among others: ranks equal those counted one by one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import scipy.linalg
import torch
from ibllm_metrics.config import RecallConfig, RPrecisionConfig
from ibllm_metrics.matching import RecallMetric, RPrecisionMetric, hits_at_k
from torch import Tensor, nn

from ibllm.plugin import fit_canonical
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.dataset import Dataset, Samples
from ibllm_core.interfaces.latent import Latent, Tokens
from ibllm_core.interfaces.tokenizer import Tokenizer
from ibllm_core.model.evaluation import Evaluation
from ibllm_core.model.model import Model

N, WORDS = 24, 64


class Numbers(Tokenizer):
    """A caption is a number; its id is that number + 4."""

    size, max_length = WORDS + 4, 3

    def train(self, texts: Sequence[str]) -> None: ...

    def encode_one(self, text: str) -> Sequence[int]:
        return [int(text) + 4]

    def decode_one(self, ids: Sequence[int]) -> str:
        return str(ids[0] - 4)

    def state(self) -> str:
        return ""

    def restore(self, state: str) -> None: ...


class Pairs(Dataset):
    """Random images of 2 × 2 pixels; item i of `test` has the caption i, one of `train` a number of its own from 32 on."""

    image_shape = (3, 2, 2)

    def __init__(self, captions: Sequence[str]) -> None:
        rng = np.random.default_rng(0)
        self.captions: dict[str, Sequence[str]] = {"train": [str(32 + i) for i in range(32)], "test": captions}
        self.images = {split: rng.integers(0, 256, (len(texts), 2, 2, 3)).astype(np.uint8) for split, texts in self.captions.items()}
        for images in self.images.values():  # no two scores are the same
            images[:, 0, 0, 0] = rng.permutation(256)[: len(images)]

    def sizes(self) -> Mapping[str, int]:
        return {split: len(texts) for split, texts in self.captions.items()}

    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        return Samples(indices=indices, images=self.images[split][indices], captions=[self.captions[split][i] for i in indices])


class Seen(nn.Module):
    """E_y: the first four numbers of an image."""

    def forward(self, y: Tensor) -> Latent:
        pooled = y.permute(0, 2, 3, 1).flatten(1)[:, :4]
        return Latent(pooled[:, None], torch.ones(len(y), 1, dtype=torch.bool), pooled)


class Known(nn.Module):
    """E_x: what each caption's image gives to E_y, in other coordinates and blurred."""

    def __init__(self, dataset: Pairs, blur: float) -> None:
        super().__init__()
        rng = np.random.default_rng(1)
        table = rng.normal(size=(WORDS + 4, 4))
        for split, texts in dataset.captions.items():
            for text, image in zip(texts, dataset.images[split], strict=True):
                table[int(text) + 4] = image.reshape(-1)[:4] / 127.5 - 1
        table = (table + blur * rng.normal(size=table.shape)) @ rng.normal(size=(4, 6))
        self.table = nn.Parameter(torch.from_numpy(table).float())

    def forward(self, tokens: Tokens) -> Latent:
        pooled = self.table[tokens.ids[:, 1]]
        return Latent(pooled[:, None], torch.ones(len(pooled), 1, dtype=torch.bool), pooled)


class Reader(nn.Module):
    """D_x: a caption is the likelier, the nearer the first of its numbers is to the first of the image."""

    def __init__(self, dataset: Pairs) -> None:
        super().__init__()
        self.known = Known(dataset, 0.3)

    def forward(self, tokens: Tokens, z: Latent) -> Tensor:
        return (self.known.table[tokens.ids[:, 1], 0] - z.pooled[:, 0]).abs()


def evaluation(captions: Sequence[str] | None = None, blur: float = 0.0) -> Evaluation:
    dataset = Pairs(captions or [str(i) for i in range(N)])
    parts = {"image_encoder": Seen(), "text_encoder": Known(dataset, blur), "text_decoder": Reader(dataset)}
    tokenizer = Numbers()
    made = Evaluation(Model(parts, {"text_encoder": tokenizer, "text_decoder": tokenizer}, dataset.image_shape), dataset, "test", items=99)
    made.generated = made.real
    return made


def likelihoods(found: Evaluation) -> npt.NDArray[np.float64]:
    """(n n) log p(caption of the column | image of the row), one by one."""
    table = found.model.parts["text_decoder"].known.table.detach().numpy()
    first = found.real.reshape(len(found), -1)[:, 0] / 127.5 - 1
    return np.array([[-abs(table[int(text) + 4, 0] - value) for text in found.captions] for value in first])


def test_equal_scores_are_put_in_every_order() -> None:
    scores = np.array([0.5, 0.7, 0.5, 0.5, 0.1])
    for k in (1, 2, 3, 5):
        orders = [sorted(order, key=lambda candidate: -scores[candidate]) for order in itertools.permutations(range(5))]
        expected = np.mean([order.index(0) < k for order in orders])
        assert hits_at_k(scores[None], np.array([[True, False, False, False, False]]), k) == pytest.approx(expected)


def test_the_best_of_several_right_ones_counts_and_they_are_not_in_each_others_way() -> None:
    scores = np.array([[0.9, 0.8, 0.7, 0.6], [1.0, 1.0, 1.0, 1.0]])
    right = np.array([[False, True, False, True], [True, True, False, False]])
    assert hits_at_k(scores, right, 1).tolist() == [0.0, pytest.approx(1 / 3)]
    assert hits_at_k(scores, right, 2).tolist() == [1.0, pytest.approx(2 / 3)]


@pytest.mark.parametrize("space", ["likelihood", "latent"])
def test_pairs_that_know_each_other_are_found(space: str) -> None:
    found = evaluation()
    metric = RecallMetric(RecallConfig(space=space, candidates=N, ridge=1e-6), Context())
    recall = metric.evaluate(found)
    for what in ("image", "caption"):
        assert recall[f"{what}_recall_1_times_chance"] == pytest.approx(recall[f"{what}_recall_1"] * N)
        assert recall[f"{what}_recall_1_shuffled"] < 0.2
        if space == "latent":
            assert {recall[f"{what}_recall_{k}"] for k in (1, 5, 10)} == {1.0}
            assert recall[f"{what}_recall_1_shuffled"] == 0.0  # every own one is found, so the next one's never is
    precision = RPrecisionMetric(RPrecisionConfig(space=space, candidates=N, ridge=1e-6), Context()).evaluate(found)
    assert precision["r_precision_times_chance"] == pytest.approx(precision["r_precision"] * N)
    if space == "latent":
        assert precision["r_precision"] == 1.0
    assert precision["r_precision_shuffled"] < 0.2


def test_recall_by_likelihood_equals_ranks_counted_one_by_one() -> None:
    found = evaluation()
    scores = likelihoods(found)
    figures = RecallMetric(RecallConfig(space="likelihood", candidates=N), Context()).evaluate(found)
    for k in (1, 5, 10):
        captions = [sorted(row, reverse=True).index(row[i]) < k for i, row in enumerate(scores.tolist())]
        images = [sorted(column, reverse=True).index(column[i]) < k for i, column in enumerate(scores.T.tolist())]
        assert figures[f"caption_recall_{k}"] == pytest.approx(np.mean(captions))
        assert figures[f"image_recall_{k}"] == pytest.approx(np.mean(images))
    assert 0.1 < figures["caption_recall_1"] < 0.9


def test_r_precision_by_likelihood_equals_ranks_counted_one_by_one() -> None:
    found = evaluation()
    scores = likelihoods(found)
    metric = RPrecisionMetric(RPrecisionConfig(space="likelihood", candidates=N), Context())
    figures = metric.evaluate(found)
    assert figures["r_precision"] == pytest.approx(np.mean(scores.argmax(1) == np.arange(N)))
    assert figures["r_precision_shuffled"] == pytest.approx(np.mean(np.roll(scores, 1, 0).argmax(1) == np.arange(N)))


def test_an_encoder_that_knows_nothing_is_at_chance() -> None:
    found = evaluation(blur=1e4)
    figures = RPrecisionMetric(RPrecisionConfig(candidates=4, ridge=1e-6), Context()).evaluate(found)
    assert abs(figures["r_precision"] - 1 / 4) < 0.3
    assert figures["r_precision_times_chance"] == pytest.approx(4 * figures["r_precision"])
    recall = RecallMetric(RecallConfig(space="latent", candidates=4, ridge=1e-6), Context()).evaluate(found)
    for what in ("image", "caption"):
        assert abs(recall[f"{what}_recall_1"] - 1 / 4) < 0.3
        assert abs(recall[f"{what}_recall_1_shuffled"] - 1 / 4) < 0.3


def test_the_control_of_recall_takes_each_for_the_next_ones() -> None:
    found = evaluation()
    metric = RecallMetric(RecallConfig(space="likelihood", candidates=N), Context())
    order = metric._pools(found)[0]
    scores = likelihoods(found)[np.ix_(order, order)]
    figures = metric.evaluate(found)
    captions = [scores[row - 1].argmax() == row for row in range(N)]
    images = [scores[:, column - 1].argmax() == column for column in range(N)]
    assert figures["caption_recall_1_shuffled"] == pytest.approx(np.mean(captions))
    assert figures["image_recall_1_shuffled"] == pytest.approx(np.mean(images))


def test_chance_is_what_guessing_gives_where_captions_are_the_same() -> None:
    found = evaluation([str(i // 2) for i in range(N)])
    metric = RecallMetric(RecallConfig(space="likelihood", candidates=N), Context())
    figures, record = metric.evaluate(found), metric.record(found)
    assert record["chance"] == pytest.approx(2 / N)
    assert figures["caption_recall_1_times_chance"] == pytest.approx(figures["caption_recall_1"] * N / 2)


def test_the_order_of_items_changes_neither_pools_nor_control() -> None:
    found, backwards = evaluation(), evaluation()
    backwards.indices = backwards.indices[::-1].copy()
    del backwards.samples  # read anew
    figures, again = (RecallMetric(RecallConfig(candidates=8), Context()).evaluate(given) for given in (found, backwards))
    assert figures == pytest.approx(again)


def test_the_others_have_other_captions_and_come_once() -> None:
    captions = [str(i // 2) for i in range(N)]
    metric = RPrecisionMetric(RPrecisionConfig(candidates=9), Context())
    found = evaluation(captions)
    candidates = metric._candidates(found)
    assert candidates.shape == (N, 9)
    for row, chosen in enumerate(candidates):
        assert chosen[0] == row
        assert len(set(chosen)) == 9
        assert all(captions[other] != captions[row] for other in chosen[1:])
    assert metric._candidates(evaluation(captions)).tolist() == candidates.tolist()
    assert RPrecisionMetric(RPrecisionConfig(), Context())._candidates(found).shape == (N, N - 1)  # as many as there are


def test_same_captions_count_as_one() -> None:
    found = evaluation(["0"] * N)
    figures = RecallMetric(RecallConfig(space="likelihood", candidates=N), Context()).evaluate(found)
    assert set(figures.values()) == {1.0}


def test_pools_share_nothing_and_the_record_tells_their_size() -> None:
    found = evaluation()
    metric = RecallMetric(RecallConfig(space="latent", candidates=7, limit=20), Context())
    pools = metric._pools(found)
    assert pools.shape == (2, 7)
    assert len(set(pools.flatten().tolist())) == 14
    assert pools.max() < 20
    record = metric.record(found)
    assert (record["n"], record["candidates"], record["images"]) == (14, 7, found.hashes["images"])
    assert record["chance"] == record["chance of images"] == pytest.approx(1 / 7)
    training = Evaluation(found.model, found.dataset, "train", items=32).hashes
    assert (record["train"], record["train_captions"], record["train_images"]) == (32, training["captions"], training["images"])


def test_canonical_correlations_solve_the_generalised_eigenproblem() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(400, 2))
    x = np.concatenate([shared, rng.normal(size=(400, 1))], 1) @ rng.normal(size=(3, 3)) + 5
    y = np.concatenate([shared + 0.5 * rng.normal(size=(400, 2)), rng.normal(size=(400, 2))], 1) @ rng.normal(size=(4, 4))
    found = fit_canonical(x, y, 1e-3)
    a, b = x - x.mean(0), y - y.mean(0)
    xx, yy, xy = a.T @ a / 400, b.T @ b / 400, a.T @ b / 400
    xx += 1e-3 * np.trace(xx) / 3 * np.eye(3)
    yy += 1e-3 * np.trace(yy) / 4 * np.eye(4)
    left = np.block([[np.zeros((3, 3)), xy], [xy.T, np.zeros((4, 4))]])
    values = scipy.linalg.eigh(left, scipy.linalg.block_diag(xx, yy), eigvals_only=True)
    np.testing.assert_allclose(found.correlations, values[::-1][:3], atol=1e-9)
    np.testing.assert_allclose(found.x_map.T @ xx @ found.x_map, np.eye(3), atol=1e-8)
    np.testing.assert_allclose(found.x_map.T @ xy @ found.y_map, np.diag(found.correlations), atol=1e-8)
