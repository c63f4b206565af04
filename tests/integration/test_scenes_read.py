"""The reader on thousands of scenes of every kind: every colour, shape and number at 32 pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ibllm_shapes.config import ShapesConfig
from ibllm_shapes.dataset import ShapesDataset
from ibllm_shapes.metrics import captioned_right, drawn_right

from ibllm_core.interfaces.context import Context

ITEMS = 2048


@pytest.mark.release
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"placement": "free"},
        {"placement": "count", "max_objects": 10},
        {"placement": "count", "max_objects": 10, "scatter": True, "held_out": "count-shape"},
        {"held_out": "colour-shape-size", "holdout": 0.4},
        {"placement": "free", "min_objects": 2, "held_out": "relation-shapes"},
    ],
)
def test_all_is_read(options: dict[str, Any]) -> None:
    config = ShapesConfig(colours=10, forms=10, languages=("en", "zh"), templates="varied", **options)
    for split in ("train", "novel"):
        samples = ShapesDataset(config, Context()).samples(split, np.arange(ITEMS))
        whole, single = drawn_right(samples.truth, samples.images)
        assert whole.mean() >= 0.999
        assert (single == samples.truth.count).mean() >= 0.999
        assert captioned_right(samples.truth, samples.captions).all()
