"""Which way is better: what a study's wording, a table's arrow and a validation's choice of weights hang on, figure by figure."""

from __future__ import annotations

import attrs

from ibllm_core.host.manager import manager
from ibllm_core.host.options import MetricConfig

#: Distances; and controls and descriptions, of which neither direction is better. Of all others more is better.
LOWER = {"frechet_random", "kernel_random", "question_kinds", "residual", "text_perplexity"}
NEITHER = {
    "answer_blind",
    "answer_prior",
    "caption_recall_1_shuffled",
    "ceiling_both",
    "clip_score_data",
    "clip_score_mixed",
    "copied_both",
    "copied_concept",
    "copied_style",
    "diversity",
    "image_recall_1_shuffled",
    "mean_both",
    "mean_concept",
    "mean_style",
    "placement_spread",
    "question_variety",
    "r_precision_shuffled",
    "sharpness",
    "spread_error_ratio",
}


def test_every_figure_of_ours_says_the_direction_that_it_has() -> None:
    found = {}
    for row in manager().rows():
        if (row.kind, row.distribution, row.status) == ("metric", "ibllm", "ok"):
            cls = manager().config_class("metric", row.name)
            config = cls(**{field.name: "x" for field in attrs.fields(cls) if field.default is attrs.NOTHING})
            assert isinstance(config, MetricConfig)
            found |= {figure.name: figure.better for figure in config.figures()}
    assert {name for name, better in found.items() if better == "lower"} == LOWER
    assert {name for name, better in found.items() if not better} == NEITHER
    assert set(found.values()) == {"higher", "lower", ""}
