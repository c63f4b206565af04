"""A metric of another package explains itself in every table and report as ours do, even where the package is gone."""

from __future__ import annotations

import json
import re
import subprocess
from html import unescape
from pathlib import Path

import attrs
import pytest

from tests.processes import ibllm

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
PLUGIN = """
from ibllm.plugin import ComponentSpec, hookimpl

@hookimpl
def ibllm_components():
    return [ComponentSpec("metric", "mood", "ibllm_mood.metric:MoodMetric", "ibllm_mood.config:MoodConfig", "moods of drawings")]
"""
CONFIG = """
import attrs
from ibllm.plugin import Figure, Mark, MetricConfig

@attrs.frozen(kw_only=True)
class MoodConfig(MetricConfig):
    def figures(self):
        return (
            Figure("gloom", "darkness", "mood of drawings", "How little light there is.", unit="lux", better="lower", caution="uncalibrated: no lamp was used"),
            Figure.share("calm", "calm drawings", "mood of drawings", "Drawings that nothing stirs in."),
        )

    def marks(self):
        return (Mark("calm", "drawing", "a calm drawing", "a restless drawing", meaning="A drawing is calm if nothing stirs in it."),)

    def needs(self):
        return frozenset({"text_encoder", "image_decoder"})
"""
METRIC = """
import numpy as np
from ibllm.plugin import Metric, Panel

class MoodMetric(Metric):
    def __init__(self, config, context):
        pass

    def evaluate(self, evaluation):
        return {"gloom": float(255 - evaluation.generated.mean()), "calm": float(self.marks(evaluation)["calm"].mean())}

    def marks(self, evaluation):
        return {"calm": np.arange(len(evaluation)) % 2 == 0}

    def panels(self, evaluation):
        light = evaluation.generated.mean((1, 2, 3))
        rows = [(caption, float(value)) for caption, value in zip(evaluation.captions, light)]
        yield Panel(title="The darkest", text="<b>Not</b> bold.\\n\\nSecond.", header=("caption", "light"), rows=sorted(rows, key=lambda row: row[1])[:2])
        yield Panel(title="One drawing", place="samples", picture=evaluation.generated[0], alt="a drawing")
"""
SETS = (
    "metrics.mood.use=mood",
    "compute.threads=1",
    "compute.device=cpu",
    "stages.text.steps=2",
    "stages.image.steps=0",
    "stages.joint.steps=0",
)


@attrs.frozen
class Place:
    folder: Path
    environment: dict[str, str]

    def ibllm(self, *arguments: str, stranger: bool = True) -> str:
        """Runs a command, with or without the stranger's package; its standard output without the tables' lines."""
        environment = self.environment if stranger else {**self.environment, "PYTHONPATH": ""}
        call = ibllm(*arguments)
        done = subprocess.run(
            call, cwd=self.folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return " ".join(re.sub("[│┃]", " ", done.stdout).split())

    def page(self, name: str) -> str:
        """The text of an HTML file."""
        source = (self.folder / name).read_text(encoding="utf-8")
        return " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", source, flags=re.DOTALL)).split())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where two runs with the stranger's metric were made, of different learning rates."""
    from tests.conftest import Site

    site = Site(tmp_path_factory.mktemp("site"))
    modules = {"ibllm_mood.__init__": "", "ibllm_mood.plugin": PLUGIN, "ibllm_mood.config": CONFIG, "ibllm_mood.metric": METRIC}
    site.install("ibllm-mood", {"mood": "ibllm_mood.plugin"}, modules, version="3.2")
    environment = site.environment() | {"OMP_NUM_THREADS": "1", "COLUMNS": "150", "PYTHONIOENCODING": "utf-8"}
    return Place(tmp_path_factory.mktemp("runs"), environment)


@pytest.fixture(scope="module")
def printed(place: Place) -> str:
    sets = [argument for value in SETS for argument in ("--set", value)]
    place.ibllm("run", str(TINY), "--run-dir", "other", *sets, "--set", "optimizer.lr=1e-4")
    return place.ibllm("run", str(TINY), "--run-dir", "mood", *sets)


def test_the_terminal_shows_it_as_ours(place: Place, printed: str) -> None:
    for text in (printed, place.ibllm("evaluate", "mood", "--items", "4")):
        assert re.search(r"mood of drawings darkness \(uncalibrated\), lower is better [\d.]+ lux [\d.]+ lux calm drawings 50.0 %", text), (
            text
        )
        assert "darkness is uncalibrated: no lamp was used" in text


@pytest.mark.usefixtures("printed")
@pytest.mark.parametrize("again", [False, True], ids=["at the end", "without the package"])
def test_the_report_shows_it_as_ours(place: Place, again: bool) -> None:
    if again:
        (place.folder / "mood" / "report.html").unlink()
        assert place.ibllm("report", "mood", stranger=False) == "report mood/report.html"
    page = place.page("mood/report.html")
    assert (
        "mood of drawings darkness (uncalibrated) gloom How little light there is. Lower is better. Uncalibrated: no lamp was used." in page
    )
    assert re.search(r"\d lux", page)
    assert "A drawing is calm if nothing stirs in it." in page
    assert "✓ a calm drawing" in page
    assert "✗ a restless drawing" in page
    assert re.search(r"The darkest mood, test <b>Not</b> bold\. Second\. caption light [^.]+ \d+(\.\d+)? ", page)
    places = [page.index(words) for words in ("The darkest mood, novel", "What the model draws from a caption", "One drawing mood, test")]
    assert places == sorted(places)
    assert (place.folder / "mood/report.html").read_text(encoding="utf-8").count('alt="a drawing"') == 2


@pytest.mark.usefixtures("printed")
def test_a_study_shows_it_as_ours(place: Place) -> None:
    assert "darkness (uncalibrated) (test/gloom), in lux; less is better" in place.ibllm(
        "compare", "mood", "other", "--primary", "test/gloom", "--out", "compared"
    )
    page, table = place.page("compared/study.html"), (place.folder / "compared" / "table.md").read_text(encoding="utf-8")
    assert "darkness (lux) gloom mood of drawings, lower is better Uncalibrated: no lamp was used." in page
    assert "A drawing is calm if nothing stirs in it." in page
    assert "novel: darkness (uncalibrated) (lux, lower is better)" in table
    assert "test: calm drawings (%)" in table


@pytest.mark.usefixtures("printed")
def test_the_run_keeps_what_it_means(place: Place) -> None:
    info = json.loads((place.folder / "mood" / "run.json").read_text(encoding="utf-8"))
    assert info["figures"]["gloom"]["unit"] == "lux"
    assert info["marks"]["calm"]["right"] == "a calm drawing"
    assert info["splits"]["novel"]
    assert info["primary_split"] == "novel"


def test_of_what_is_no_run_there_is_no_report(place: Place) -> None:
    call = ibllm("report", place.folder)
    done = subprocess.run(call, env=place.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is no run directory: it holds no recipe.toml" in done.stderr
