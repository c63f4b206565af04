"""A run that has moved together with what its recipe names is read all the same."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from ibllm.opening import load_run
from ibllm_core.errors import Notice
from ibllm_core.recipe import load
from ibllm_core.recipe.locate import dotted
from ibllm_core.runs.directory import RunDirectory

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    here = tmp_path / "here"
    (here / "data").mkdir(parents=True)
    (here / "data" / "captions.csv").write_text("image,caption\n0.png,a thing\n", encoding="utf-8")
    text = (
        f'format = 1\nextends = "{TINY}"\n[data]\nuse = "files"\npath = "captions.csv"\n[metrics]\nscene = false\ncaption_facts = false\n'
    )
    text += 'round_trip = false\nchrf = { use = "chrf" }\n[stages.image.validate]\nfigure = "chrf"\n'
    (here / "data" / "r.toml").write_text(text, encoding="utf-8")
    recipe = load(here / "data" / "r.toml")
    made = RunDirectory(here / "a run")
    made.create(recipe)
    paths = {dotted(one.path): [str(one.where), os.path.relpath(one.where, made.path)] for one in recipe.dependencies}
    assert paths == {"data.path": [str(here / "data" / "captions.csv"), "../data/captions.csv"]}
    made.update(paths=paths)
    return made


def test_what_moved_with_it_is_found_and_told_and_its_source_stays(run: RunDirectory, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = load_run(run)
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.warns(
        Notice, match=f"data.path = {tmp_path}/here/data/captions.csv is not there; {tmp_path}/there/data/captions.csv is used"
    ):
        after = load_run(RunDirectory(tmp_path / "there" / "a run"))
    assert Path(after.data.config.path) == tmp_path / "there" / "data" / "captions.csv"  # type: ignore[attr-defined]
    assert after.source == before.source


def test_data_that_are_where_they_were_are_taken_from_there(run: RunDirectory, tmp_path: Path) -> None:
    run.path.rename(tmp_path / "elsewhere")
    assert Path(load_run(RunDirectory(tmp_path / "elsewhere")).data.config.path) == tmp_path / "here" / "data" / "captions.csv"  # type: ignore[attr-defined]
