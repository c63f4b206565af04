"""A grid's curves: an axis from left to right, a line a variant, a plot a split; in the report of the study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ibllm_study.analysis import Analysis
from ibllm_study.findings import from_plan
from ibllm_study.page import page
from ibllm_study.sweeps import sweeps

TINY = Path(__file__).parents[2] / "training" / "tiny.toml"
GRID = f"""\
format = 1
base = "{TINY}"
design = "grid"
seeds = SEEDS
primary = "novel/scene_exact"
[variants]
"no cycle" = {{ "losses.cycle" = false }}
[axes]
"data.holdout" = [0.1, 0.2]
"data.train_size" = [1_000, 100_000]
"""


@pytest.fixture(scope="module")
def analysis(make: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    plan, directory = make(tmp_path_factory.mktemp("grid"), seeds=2, text=GRID)
    return Analysis(from_plan(plan, directory))


def test_every_arm_knows_its_place(analysis: Analysis) -> None:
    by_name = {arm.name: (arm.family, dict(arm.point)) for arm in analysis.findings.arms}
    # The base's own value of train_size is not among the axis's.
    assert by_name["base"] == ("base", {"data.holdout": 0.1, "data.train_size": 1_000_000})
    name = "no cycle, data.holdout = 0.2, data.train_size = 1000"
    assert by_name[name] == ("no cycle", {"data.holdout": 0.2, "data.train_size": 1000})
    assert {family for family, _ in by_name.values()} == {"base", "no cycle"}


def test_numbers_are_swept_figures_with_a_caution_are_not(analysis: Analysis) -> None:
    found = sweeps(analysis)
    titles = [sweep.title for sweep in found]
    assert "scenes right by data.train_size, data.holdout = 0.2" in titles
    assert "captions right by data.holdout, data.train_size = 1000" in titles
    assert not [title for title in titles if title.startswith(("self-agreement", "BLEU"))]
    one = found[titles.index("scenes right by data.train_size, data.holdout = 0.2")]
    # A plot for each split that has the figure, a line for each variant.
    assert [plot.title.split(":")[0] for plot in one.plots] == ["novel", "test"]
    assert [label for _, _, label in one.plots[0].legend] == ["base", "no cycle"]
    assert "100,000" in one.plots[0].svg


def test_the_page_shows_them_beside_the_primary_figure(analysis: Analysis) -> None:
    text = page(analysis)
    assert '<section id="curves"' in text
    assert "<details open><summary>scenes right by data.holdout" in text
    assert "<details><summary>captions right by data.holdout" in text


def test_a_study_that_is_no_grid_has_no_curves(whole: Any) -> None:
    plan, directory = whole
    analysis = Analysis(from_plan(plan, directory))
    assert {arm.family for arm in analysis.findings.arms} == {""}
    assert sweeps(analysis) == []
