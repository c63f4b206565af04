"""The metrics on pictures and captions whose figures are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ibllm_shapes.config import CaptionFactsConfig, RoundTripConfig, SceneConfig, ShapesConfig
from ibllm_shapes.dataset import ShapesDataset
from ibllm_shapes.metrics import CaptionFactsMetric, RoundTripMetric, SceneMetric

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.dataset import Samples

CONTEXT = Context()


def evaluation(placement: str = "cells", **changes: Any) -> Any:
    samples = ShapesDataset(ShapesConfig(placement=placement), CONTEXT).samples("novel", np.arange(100))
    perfect = {
        "samples": samples,
        "captions": samples.captions,
        "generated": samples.images,
        "read": samples.captions,
        "reread": samples.captions,
        "once": lambda name, compute: compute(),
    }
    return SimpleNamespace(**(perfect | changes))


METRICS = (
    SceneMetric(SceneConfig(), CONTEXT),
    CaptionFactsMetric(CaptionFactsConfig(), CONTEXT),
    RoundTripMetric(RoundTripConfig(), CONTEXT),
)


@pytest.mark.parametrize("placement", ["cells", "free"])
def test_a_perfect_model_scores_one(placement: str) -> None:
    for metric, config in zip(METRICS, (SceneConfig(), CaptionFactsConfig(), RoundTripConfig()), strict=True):
        figures = metric.evaluate(evaluation(placement))
        assert set(figures) == set(config.names())
        assert set(figures.values()) == {1.0}


def test_pictures_of_other_captions_are_wrong() -> None:
    right = evaluation()
    moved = np.concatenate([right.generated[:75], np.roll(right.generated[75:], 1, axis=0)])
    figures = SceneMetric(SceneConfig(), CONTEXT).evaluate(evaluation(generated=moved))
    assert figures["scene_exact"] == 0.75
    assert 0.75 <= figures["object_exact"] < 0.85


def test_a_round_trip_needs_both_readers() -> None:
    right = evaluation()
    captions = list(right.captions)
    metric = RoundTripMetric(RoundTripConfig(), CONTEXT)
    babble = ["nothing"] * 20 + captions[20:]
    assert metric.evaluate(evaluation(reread=babble)) == {"roundtrip_exact": 0.8, "self_agreement": 0.8}
    empty = right.generated.copy()
    empty[:30] = 0
    assert metric.evaluate(evaluation(reread=babble, generated=empty)) == {"roundtrip_exact": 0.7, "self_agreement": 0.8}


def test_captions_are_compared_as_facts() -> None:
    samples = evaluation().samples
    stated = [caption.replace(" at the ", " in the ") for caption in samples.captions]
    varied = ["a picture of " + ", ".join(p + " corner" for p in caption.replace(" and ", ", ").split(", ")) for caption in stated]
    joined = [" and ".join(caption.rsplit(", ", 1)) for caption in varied]
    metric = CaptionFactsMetric(CaptionFactsConfig(), CONTEXT)
    assert set(metric.evaluate(evaluation(read=joined)).values()) == {1.0}
    wrong = metric.evaluate(evaluation(read=["a circle"] * 100))
    assert set(wrong.values()) == {0.0}


def test_partial_captions_have_precision_without_recall() -> None:
    samples = evaluation().samples
    first = [caption.split(", ")[0].split(" and ")[0] for caption in samples.captions]
    figures = CaptionFactsMetric(CaptionFactsConfig(), CONTEXT).evaluate(evaluation(read=first))
    assert figures["caption_object_precision"] == 1.0
    assert figures["caption_object_recall"] == pytest.approx(100 / samples.truth.count.sum())
    assert figures["caption_exact"] == (samples.truth.count == 1).mean()


def test_other_data_is_refused() -> None:
    other = evaluation(samples=Samples(indices=np.arange(1)))
    for metric in METRICS:
        with pytest.raises(ValueError, match="the dataset shapes"):
            metric.evaluate(other)


def test_marks_say_item_by_item_what_the_figures_average() -> None:
    right = evaluation()
    moved = np.concatenate([right.generated[:75], np.roll(right.generated[75:], 1, axis=0)])
    babble = ["nothing"] * 20 + list(right.captions)[20:]
    judged = evaluation(generated=moved, reread=babble, read=babble)
    marks = {name: values for metric in METRICS for name, values in metric.marks(judged).items()}
    assert set(marks) == {"scene", "caption", "roundtrip", "self_agreement"}
    assert marks["scene"].tolist() == [True] * 75 + [False] * 25
    assert marks["caption"].tolist() == marks["self_agreement"].tolist() == [False] * 20 + [True] * 80
    assert marks["roundtrip"].tolist() == [False] * 20 + [True] * 55 + [False] * 25
