"""Several captions of an image, and several images of a caption: figures use all of them, as other programs and hand counts do."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import pytest
import sacrebleu
from ibllm_metrics.belonging import right
from ibllm_metrics.cider import Frequencies, cider_d
from ibllm_metrics.config import BLEUConfig, ChrFConfig, CIDErConfig, RecallConfig, RetrievalConfig, RPrecisionConfig
from ibllm_metrics.images import RetrievalMetric
from ibllm_metrics.matching import RecallMetric, RPrecisionMetric
from ibllm_metrics.text import BLEUMetric, ChrFMetric, CIDErMetric

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.dataset import Samples

#: Three images with two, three and one captions, and what was read off each.
REFERENCES = [
    ["a large red ring at the top left", "a red ring in the corner"],
    ["a small blue ring", "a blue ring and a dot", "a ring that is blue at the bottom left"],
    ["a green square"],
]
READ = ["a red ring at the top left", "a small blue ring and a dot", "a green circle"]
GROUPS = [number for number, texts in enumerate(REFERENCES) for _ in texts]
CAPTIONS = [text for texts in REFERENCES for text in texts]


class Stated:
    """An evaluation of one item a caption."""

    dataset = None

    def __init__(self, **facts: Any) -> None:
        self.captions, self.languages, self.hashes = CAPTIONS, ["en"] * len(CAPTIONS), dict[str, str]()
        self.samples = Samples(np.arange(len(CAPTIONS)), captions=CAPTIONS, groups=np.array(GROUPS))
        self.read = [READ[group] for group in GROUPS]
        self.__dict__.update(facts)

    def __len__(self) -> int:
        return len(self.captions)

    def once(self, name: str, compute: Any) -> Any:
        return self.__dict__.setdefault(name, compute())


def streams() -> list[list[str | None]]:
    return [[texts[place] if place < len(texts) else None for texts in REFERENCES] for place in range(3)]


def test_bleu_and_chrf_are_sacrebleus_with_all_references() -> None:
    stated: Any = Stated()
    expected = sacrebleu.corpus_bleu(READ, streams()).score / 100
    assert BLEUMetric(BLEUConfig(), Context()).evaluate(stated) == {"bleu": pytest.approx(expected)}
    assert "nrefs:var" in str(BLEUMetric(BLEUConfig(), Context()).record(stated)["signature en"])
    expected = sacrebleu.corpus_chrf(READ, streams()).score / 100
    assert ChrFMetric(ChrFConfig(), Context()).evaluate(stated) == {"chrf": pytest.approx(expected)}
    one = Stated(samples=Samples(np.arange(len(CAPTIONS)), captions=CAPTIONS))
    alone = sacrebleu.corpus_bleu([READ[group] for group in GROUPS], [CAPTIONS]).score / 100
    assert BLEUMetric(BLEUConfig(), Context()).evaluate(one) == {"bleu": pytest.approx(alone)}  # type: ignore[arg-type]


def test_cider_is_the_mean_over_an_images_references_which_are_one_document() -> None:
    words = [[text.split() for text in texts] for texts in REFERENCES]
    frequencies = Frequencies.of(words, 4)
    grams = collections.Counter(gram for texts in words for gram in {word for text in texts for word in text})
    assert frequencies.documents == 3 and all(frequencies.counts[(word,)] == count for word, count in grams.items())
    each = [np.mean([cider_d(text.split(), one, frequencies, 4) for one in some]) for text, some in zip(READ, words, strict=True)]
    stated: Any = Stated()
    assert CIDErMetric(CIDErConfig(), Context()).evaluate(stated) == {"cider": pytest.approx(np.mean(each))}
    assert "nrefs:var" in str(CIDErMetric(CIDErConfig(), Context()).record(stated)["signature en"])


def test_each_generated_image_is_scored_against_all_references_of_its_image() -> None:
    reread = [f"{READ[group]} {number}" for number, group in enumerate(GROUPS)]
    of = [REFERENCES[group] for group in GROUPS]
    expected = sacrebleu.corpus_bleu(reread, [[some[p] if p < len(some) else None for some in of] for p in range(3)]).score / 100
    stated: Any = Stated(reread=reread)
    assert BLEUMetric(BLEUConfig(images="generated"), Context()).evaluate(stated) == {"bleu_generated": pytest.approx(expected)}


def test_a_caption_is_right_for_every_image_that_has_its_words() -> None:
    texts, images = np.array([0, 1, 1, 2]), np.array([0, 0, 1, 2])
    expected = [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    assert right(texts, images).astype(int).tolist() == expected


def pictures(count: int) -> Any:
    found = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
    found[:, 0, 0, 0] = np.arange(count)
    return found


class Scored(RecallMetric):
    """Recall of one pool in the items' order, by scores that are given."""

    scores: Any

    def _pools(self, evaluation: Any) -> Any:
        return np.arange(len(evaluation))[None]


def test_recall_counts_images_and_captions_once_as_on_coco(monkeypatch: pytest.MonkeyPatch) -> None:
    images, captions = [0, 0, 1, 1, 2, 2], ["a", "b", "c", "d", "e", "f"]
    by_image = np.random.default_rng(1).normal(size=(3, 6))  # image, caption
    stated: Any = Stated(
        captions=captions, real=pictures(3)[images], samples=Samples(np.arange(6), captions=captions, groups=np.array(images))
    )
    monkeypatch.setattr("ibllm_metrics.matching._scores", lambda config, evaluation, real, candidates: by_image[images])
    found = Scored(RecallConfig(), Context()).evaluate(stated)
    for k in (1, 5):
        to_captions = [any(images[c] == i for c in np.argsort(-by_image[i])[:k]) for i in range(3)]
        to_images = [images[c] in np.argsort(-by_image[:, c])[:k] for c in range(6)]
        assert found[f"caption_recall_{k}"] == pytest.approx(np.mean(to_captions))
        assert found[f"image_recall_{k}"] == pytest.approx(np.mean(to_images))
    assert found["caption_recall_1_times_chance"] == pytest.approx(found["caption_recall_1"] / (2 / 6))
    assert found["image_recall_1_times_chance"] == pytest.approx(found["image_recall_1"] / (1 / 3))


def test_r_precisions_others_are_of_other_images() -> None:
    images, captions = [0, 0, 1, 1, 2, 2], ["a", "b", "c", "b", "e", "f"]
    stated: Any = Stated(captions=captions, real=pictures(3)[images], seed=0, split="test", indices=np.arange(6))
    chosen = RPrecisionMetric(RPrecisionConfig(candidates=3), Context())._candidates(stated)
    for row, others in enumerate(chosen):
        own = {captions[k] for k in range(6) if images[k] == images[row]}
        assert others[0] == row and not own & {captions[k] for k in others[1:]}


def test_a_drawing_that_is_a_right_one_is_right_though_twelve_images_have_its_caption() -> None:
    real = pictures(12)
    generated = real[[5] * 12]
    stated: Any = Stated(captions=["a card"] * 12, real=real, generated=generated)
    found = RetrievalMetric(RetrievalConfig(among="split", size=4), Context()).evaluate(stated)
    assert found == {"retrieval_top1": 1.0, "retrieval_top5": 1.0}
    other: Any = Stated(captions=[f"card {number}" for number in range(12)], real=real, generated=generated)
    assert RetrievalMetric(RetrievalConfig(among="split", size=4), Context()).evaluate(other)["retrieval_top1"] == pytest.approx(1 / 12)
