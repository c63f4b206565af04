"""What figures depend on beside the model is told with them."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
from click.testing import CliRunner
from ibllm_cli.main import cli

from ibllm.api import Run
from ibllm_core.model.evaluation import Evaluation


def test_every_metric_of_every_reported_split_is_recorded(finished: Path) -> None:
    run = Run(finished)
    measured = run.info["metrics"]
    assert set(measured) == set(run.recipe.evaluation.splits)
    for split, metrics in measured.items():
        assert set(metrics) == set(run.recipe.metrics)
        hashes = Evaluation(run.model, run.dataset, split, items=8).hashes
        assert all(record == {"n": 8, **hashes} for record in metrics.values())


def test_hashes_are_equal_for_the_same_items_only(finished: Path) -> None:
    run = Run(finished)
    first, same, fewer = (Evaluation(run.model, run.dataset, "test", items=items, seed=seed) for items, seed in ((8, 0), (8, 1), (7, 0)))
    assert set(first.hashes) == {"captions", "images"}
    assert first.hashes == same.hashes
    assert not set(first.hashes.values()) & set(fewer.hashes.values())
    changed = Evaluation(run.model, run.dataset, "test", items=8)
    images = np.array(changed.real)
    images[-1, -1, -1, -1] ^= np.uint8(1)
    changed.samples = attrs.evolve(changed.samples, images=images)
    assert changed.hashes["images"] != first.hashes["images"]
    assert changed.hashes["captions"] == first.hashes["captions"]


def test_evaluate_tells_it_below_the_table(finished: Path) -> None:
    result = CliRunner().invoke(cli, ["evaluate", str(finished), "--split", "novel", "--items", "4"], standalone_mode=False)
    assert "How they were measured" in result.output
    assert "n 4, captions" in result.output
