"""CIDEr-D equals the released code."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ibllm_metrics.cider import Frequencies, cider_d
from ibllm_metrics.config import CIDErConfig
from ibllm_metrics.text import CIDErMetric

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.dataset import Dataset, Samples

WRITTEN = [
    "a large red circle at the top left",
    "a small blue ring at the bottom left of the page",
    "a green square",
    "two red rings",
    "a large red ring at the top left",
]
REFERENCES = [
    "a large red ring at the top left",
    "a small blue ring at the bottom left and a dot",
    "a small green square at the middle right",
    "a large red circle and a small red circle",
    "a large red ring at the top left",
]
#: What `Cider().compute_score` of pycocoevalcap 1.2 (PyPI) gives for these, the references being the corpus.
RELEASED = [3.6959973623401243, 6.129083814690976, 1.7800782071798031, 0.09494530773569272, 10.0]


class Captions(Dataset):
    image_shape = (1, 1, 1)

    def sizes(self) -> Mapping[str, int]:
        return {"train": 3}

    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        texts = ["a large red ring", "ein Kreis", "a small ring"]
        return Samples(indices=indices, captions=[texts[i] for i in indices], languages=[["en", "de", "en"][i] for i in indices])


class Stated:
    dataset = Captions()
    languages: list[str]

    def __init__(self, read: list[str], captions: list[str]) -> None:
        self.read, self.captions, self.languages, self.hashes = read, captions, ["en"] * len(read), {}
        self.samples = Samples(np.arange(len(read)), captions=captions)

    def __len__(self) -> int:
        return len(self.read)

    def once(self, name: str, compute: Any) -> Any:
        return compute()


def test_every_score_is_the_released_codes() -> None:
    frequencies = Frequencies.of([[text.split()] for text in REFERENCES], 4)
    scores = [cider_d(a.split(), b.split(), frequencies, 4) for a, b in zip(WRITTEN, REFERENCES, strict=True)]
    assert scores == pytest.approx(RELEASED, rel=1e-12)


def test_the_metric_is_their_mean_and_takes_no_notice_of_case() -> None:
    stated: Any = Stated([text.upper() for text in WRITTEN], REFERENCES)
    assert CIDErMetric(CIDErConfig(), Context()).evaluate(stated) == {"cider": pytest.approx(np.mean(RELEASED))}


def test_unigrams_by_hand() -> None:
    """Of two documents, only "ring" is in both: its weight is 0, those of the others log 2."""
    frequencies = Frequencies.of([[["red", "ring"]], [["blue", "ring"]]], 1)
    assert cider_d(["red", "red", "ring"], ["red", "ring"], frequencies, 1) == pytest.approx(
        10 * math.exp(-1 / 72) * (math.log(2) * math.log(2)) / (2 * math.log(2) * math.log(2))
    )


def test_how_common_words_are_may_be_told_by_the_training_split() -> None:
    stated: Any = Stated(["a red ring"], ["a red ring"])
    metric = CIDErMetric(CIDErConfig(frequencies="train", order=1), Context())
    assert "frequencies:train|documents:2|" in str(metric.record(stated)["signature en"])  # those of the caption's own language
    record = metric.record(stated)  # of all languages
    assert (record["train"], record["train_captions"]) == (3, hashlib.sha256(b"a large red ring\nein Kreis\na small ring").hexdigest()[:16])
    assert metric.evaluate(stated)["cider"] == pytest.approx(10)
    alone = CIDErMetric(CIDErConfig(order=1), Context()).evaluate(stated)["cider"]
    assert alone == 0  # the only document: no word is rarer than another


def test_texts_too_short_for_an_order_score_nothing_there() -> None:
    frequencies = Frequencies.of([[["red"]], [["blue"]]], 4)
    assert cider_d(["red"], ["red"], frequencies, 4) == pytest.approx(2.5)
    assert cider_d([], ["red"], frequencies, 4) == 0
