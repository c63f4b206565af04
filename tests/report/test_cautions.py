"""What a metric's record says against a figure is told once, in the terminal, in run.json and beside the figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ibllm_cli.main import main

from ibllm.figures import NOT_INDEPENDENT, Figure
from ibllm.glossary import Glossary
from ibllm_core.errors import Notice

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
SAID = "biased upwards: 6 items for 8 features are too few for their covariance"


@pytest.mark.slow
@pytest.mark.usefixtures("unrehearsed_runs")
def test_a_frechet_distance_of_fewer_items_than_features(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    few, enough = "{use='frechet',width=8}", "{use='frechet',extractor='pixels',size=1}"
    steps = ("stages.text.steps=1", "stages.text.validate.every=0", "stages.image.steps=0", "stages.joint.steps=0")
    plan = (*steps, "evaluation.items=6", "evaluation.after_stage=0", "evaluation.splits=['test','novel']")
    metrics = (f"metrics.few={few}", f"metrics.enough={enough}")
    with pytest.warns(Notice) as told:
        assert main(["run", str(TINY), "--run-dir", str(run), *(word for one in (*plan, *metrics) for word in ("--set", one))]) == 0
    assert [str(one.message) for one in told].count(f"frechet_random is {SAID}") == 1
    assert f"Fréchet distance, random is {SAID}" in " ".join(capfd.readouterr().out.split())
    info = json.loads((run / "run.json").read_text())
    assert info["notices"].count(f"frechet_random is {SAID}") == 1
    assert info["metrics"]["novel"]["few"]["caution frechet_random"] == SAID
    assert not [key for record in info["metrics"]["novel"].values() for key in record if key == "caution frechet_pixels"]
    page = (run / "report.html").read_text()
    assert f'<small class="caution">{SAID.capitalize()}.</small>' in page

    assert main(["evaluate", str(run), "--split", "test", "--items", "9"]) == 0
    assert "(biased upwards)" not in capfd.readouterr().out
    assert main(["evaluate", str(run), "--split", "test", "--items", "8"]) == 0
    assert "(biased upwards)" in capfd.readouterr().out


def test_what_is_said_of_a_figure_by_several_records_stands_once_behind_what_its_metric_says() -> None:
    glossary = Glossary(figures={"score": Figure("score", caution=NOT_INDEPENDENT), "other": Figure("other")})
    found = glossary.cautioned([{"n": 2, "caution score": "of few items"}, {"caution score": "of few items", "caution score/zh": "odd"}])
    assert found.figure("score").caution == f"{NOT_INDEPENDENT}; of few items"
    assert found.figure("score/zh").caution == f"{NOT_INDEPENDENT}; odd"
    assert not found.figure("other").caution
    assert list(found.figures)[:2] == ["score", "other"]
