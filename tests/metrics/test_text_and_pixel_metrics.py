"""Metrics equal their definitions, computed here a second time."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ibllm_metrics.config import BLEUConfig, ChrFConfig, DiversityConfig, RetrievalConfig
from ibllm_metrics.images import DiversityMetric, RetrievalMetric
from ibllm_metrics.text import BLEUMetric, ChrFMetric

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.dataset import Dataset, Samples

Pixels = npt.NDArray[np.uint8]


class Drawings(Dataset):
    """Random drawings; the items 0 and 1 of the training split are the same one."""

    image_shape = (3, 8, 8)

    def __init__(self) -> None:
        self.train: Pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)
        self.train[1] = self.train[0]
        self.held: Pixels = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)

    def sizes(self) -> Mapping[str, int]:
        return {"train": 20, "held": 6}

    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        names = [f"{split} {index}" for index in indices]
        return Samples(indices=indices, images={"train": self.train, "held": self.held}[split][indices], captions=names)


class Stated:
    """An evaluation whose model's answers are given."""

    def __init__(self, **facts: Any) -> None:
        self.__dict__.update(facts)

    def __len__(self) -> int:
        return len(self.captions)  # type: ignore[attr-defined]

    def once(self, name: str, compute: Any) -> Any:
        return self.__dict__.setdefault(name, compute())

    def draws(self, count: int) -> Pixels:
        return self.many[:count]  # type: ignore[no-any-return, attr-defined]


def texts(written: Sequence[str], captions: Sequence[str], languages: Sequence[str] | None = None, **more: Any) -> Any:
    given = Samples(np.arange(len(written)), captions=list(captions), groups=more.pop("groups", None))
    codes = list(languages or ["en"] * len(written))
    return Stated(read=list(written), captions=list(captions), languages=codes, samples=given, **more)


def bleu(pairs: Sequence[tuple[list[str], list[str]]], order: int = 4) -> float:
    """Papineni et al. 2002, section 2.3, over corpora in which every n-gram order has a match."""
    logs = []
    for n in range(1, order + 1):
        right = total = 0
        for written, reference in pairs:
            grams = Counter(tuple(written[i : i + n]) for i in range(len(written) - n + 1))
            wanted = Counter(tuple(reference[i : i + n]) for i in range(len(reference) - n + 1))
            right += sum(min(count, wanted[gram]) for gram, count in grams.items())
            total += sum(grams.values())
        logs.append(math.log(right / total))
    c, r = sum(len(w) for w, _ in pairs), sum(len(w) for _, w in pairs)
    return min(1.0, math.exp(1 - r / c)) * math.exp(sum(logs) / order)


WRITTEN = ["a large red circle at the top left", "a small blue ring at the bottom left"]
CAPTIONS = ["a large red ring at the top left", "a small blue ring at the bottom left and a dot"]


def test_bleu_closed_form() -> None:
    expected = bleu([(w.split(), c.split()) for w, c in zip(WRITTEN, CAPTIONS, strict=True)])
    assert BLEUMetric(BLEUConfig(), Context()).evaluate(texts(WRITTEN, CAPTIONS)) == {"bleu": pytest.approx(expected)}


def test_chinese_is_compared_by_character_and_languages_by_themselves() -> None:
    written, captions = ["左上角有一个红色的大圆形"], ["左上角有一个蓝色的大圆形"]
    chinese = bleu([(list(written[0]), list(captions[0]))])
    metric = BLEUMetric(BLEUConfig(), Context())
    assert metric.evaluate(texts(written, captions, ["zh"]))["bleu"] == pytest.approx(chinese)
    mixed = metric.evaluate(texts([*WRITTEN, *written], [*CAPTIONS, *captions], ["en", "en", "zh"]))["bleu"]
    english = bleu([(w.split(), c.split()) for w, c in zip(WRITTEN, CAPTIONS, strict=True)])
    assert mixed == pytest.approx((2 * english + chinese) / 3)


def test_the_record_says_how_words_were_compared() -> None:
    stated = texts([*WRITTEN, "一个"], [*CAPTIONS, "一个"], ["en", "en", "zh"], hashes={"captions": "f00d"})
    found = BLEUMetric(BLEUConfig(order=2), Context()).record(stated)
    assert (found["n"], found["captions"]) == (3, "f00d")
    assert "tok:13a" in str(found["signature en"])
    assert "tok:zh" in str(found["signature zh"])
    assert str(found["signature en"]).endswith("order:2")
    assert "nrefs:1" in str(ChrFMetric(ChrFConfig(), Context()).record(stated)["signature en"])


def test_short_names_are_compared_by_their_own_length() -> None:
    assert BLEUMetric(BLEUConfig(order=1), Context()).evaluate(texts(["red heart"], ["red heart"]))["bleu"] == pytest.approx(1.0)


def test_chrf_closed_form() -> None:
    """Popović 2015: F with β = 2 of the mean precision and recall of character n-grams, spaces left out."""
    written, caption = "redring", "redrong"
    precisions, recalls = [], []
    for n in range(1, 7):
        grams, wanted = (Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in (written, caption))
        right = sum((grams & wanted).values())
        precisions.append(right / sum(grams.values()))
        recalls.append(right / sum(wanted.values()))
    found = ChrFMetric(ChrFConfig(), Context()).evaluate(texts([written], [caption]))["chrf"]
    p, r = sum(precisions) / 6, sum(recalls) / 6
    assert found == pytest.approx(5 * p * r / (4 * p + r), abs=1e-6)


def test_captions_of_generated_images_have_a_name_of_their_own() -> None:
    config = BLEUConfig(images="generated")
    found = BLEUMetric(config, Context()).evaluate(texts(["no"] * 2, CAPTIONS, reread=CAPTIONS))
    assert found == {"bleu_generated": pytest.approx(1.0)}
    assert config.names() == ("bleu_generated",)
    assert "image_decoder" in config.needs()


def drawn(dataset: Drawings, split: str, generated: Pixels) -> Any:
    real = dataset.train if split == "train" else dataset.held
    names = [f"{split} {index}" for index in range(len(generated))]
    return Stated(dataset=dataset, split=split, real=real[: len(generated)], generated=generated, captions=names)


def test_a_perfect_drawing_is_found_and_twins_count_as_one() -> None:
    dataset = Drawings()
    for among in ("train", "split", "both"):
        metric = RetrievalMetric(RetrievalConfig(among=among, size=8), Context())
        assert metric.evaluate(drawn(dataset, "train", dataset.train))["retrieval_top1"] == 1.0


def test_top_one_and_top_five_equal_ranks_counted_by_hand() -> None:
    dataset = Drawings()
    noise = np.random.default_rng(2).normal(0, 90, dataset.held.shape)
    generated = np.clip(dataset.held + noise, 0, 255).astype(np.uint8)
    gallery = [*dataset.train[1:], *dataset.held]
    ranks = []
    for place, image in enumerate(generated):
        distances = [float(((image.astype(float) - other) ** 2).sum()) for other in gallery]
        ranks.append(sorted(distances).index(distances[19 + place]))
    found = RetrievalMetric(RetrievalConfig(size=8), Context()).evaluate(drawn(dataset, "held", generated))
    assert found["retrieval_top1"] == pytest.approx(np.mean([rank < 1 for rank in ranks]))
    assert found["retrieval_top5"] == pytest.approx(np.mean([rank < 5 for rank in ranks]))


def test_held_out_drawings_are_not_among_the_training_drawings() -> None:
    dataset = Drawings()
    metric = RetrievalMetric(RetrievalConfig(among="train", size=8), Context())
    assert metric.evaluate(drawn(dataset, "held", dataset.held)) == {"retrieval_top1": 0.0, "retrieval_top5": 0.0}


def test_images_are_compared_at_the_size_asked_for() -> None:
    dataset = Drawings()
    for size in (4, 64):
        metric = RetrievalMetric(RetrievalConfig(size=size), Context())
        assert metric.evaluate(drawn(dataset, "held", dataset.held))["retrieval_top1"] == 1.0


def sha(images: Pixels) -> str:
    return hashlib.sha256(images.tobytes()).hexdigest()[:16]


def test_the_record_tells_the_gallery() -> None:
    dataset = Drawings()
    stated = drawn(dataset, "held", dataset.held)
    stated.hashes = {"images": "f00d"}
    common = {"n": 6, "images": "f00d", "extractor": "RGB, L2", "size": 8, "limit": 10}
    train = {"train": 10, "train_images": sha(dataset.train[:10])}
    once = dataset.train[1:10]  # the first two are the same one
    for among, gallery, more in (
        ("split", dataset.held, {}),
        ("train", once, train),
        ("both", np.concatenate([once, dataset.held]), train),
    ):
        record = RetrievalMetric(RetrievalConfig(among=among, size=8, limit=10), Context()).record(stated)
        assert record == {**common, "among": among, "gallery": len(gallery), "gallery_images": sha(gallery), **more}


def test_the_record_tells_how_many_draws_were_compared() -> None:
    stated = Stated(captions=["a", "b"], hashes={"captions": "f00d"})
    record = DiversityMetric(DiversityConfig(draws=3), Context()).record(stated)  # type: ignore[arg-type]
    assert record == {"n": 2, "captions": "f00d", "extractor": "RGB, root mean square", "draws": 3}


def test_diversity_is_the_root_mean_square_difference_of_pairs() -> None:
    many = np.stack([np.full((2, 4, 4, 3), value, np.uint8) for value in (0, 51, 102)])
    metric = DiversityMetric(DiversityConfig(draws=3), Context())
    assert metric.evaluate(Stated(many=many))["diversity"] == pytest.approx((0.2 + 0.4 + 0.2) / 3)  # type: ignore[arg-type]
    same = np.repeat(many[1:2], 3, 0)
    assert metric.evaluate(Stated(many=same))["diversity"] == 0.0  # type: ignore[arg-type]
