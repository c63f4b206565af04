"""What comes after the training is played before its first step on a few items: it is refused there or not at all, and nothing is left of it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ibllm_cli.main import main
from PIL import Image
from safetensors.torch import load_file

from ibllm_core.errors import Notice
from ibllm_core.host.attribution import ComponentFailed
from ibllm_core.interfaces.reporting import Metric
from ibllm_core.model import build
from ibllm_core.model.evaluation import Evaluation
from ibllm_core.recipe.schema import Recipe
from ibllm_core.training.events import Listener, Rehearsed
from ibllm_core.training.job import Interrupted, Job

from .conftest import TINY

SHORT = ("compute.device=cpu", "compute.threads=1", "stages.text.steps=1", "stages.image.steps=1", "stages.joint.steps=0")


@pytest.fixture
def measured_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Metric]], None]:
    """``measured_by(cls)``: the recipe's metric `scene` is an object of this class, a new one whenever metrics are built."""

    monkeypatch.setenv("IBLLM_BLOCK", "report")

    def measured(made: Callable[[], Metric]) -> None:
        def built(recipe: Recipe) -> dict[str, Metric]:
            return {"scene": made()} if "scene" in recipe.metrics else {}

        monkeypatch.setattr(build, "build_metrics", built)
        monkeypatch.setattr("ibllm_core.host.options.MetricConfig.names", lambda config: ("mean",))

    return measured


class Mean(Metric):
    """The mean brightness of the generated images."""

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        return {"mean": float(evaluation.generated.mean())}


def only(tiny, *sets: str) -> Recipe:  # type: ignore[no-untyped-def]
    """The tiny recipe with one metric and one stage."""
    away = ("metrics.caption_facts=false", "metrics.round_trip=false", "trackers.tensorboard=false", 'stages.image.validate.figure=""')
    sets = (*away, "stages.image.steps=0", "stages.text.steps=2", 'evaluation.splits=["test"]', "stages.text.validate.every=2", *sets)
    recipe: Recipe = tiny(*SHORT, *sets)
    return recipe


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe over a user's own pictures, measured by metrics that only know the dataset `shapes`."""
    folder = tmp_path_factory.mktemp("own")
    for k in range(20):
        Image.fromarray(np.full((16, 16, 3), 12 * k, np.uint8)).save(folder / f"{k}.png")

    def split(k: int) -> str:
        return "test" if k < 4 else "validation" if k < 8 else "train"

    (folder / "captions.csv").write_text("image,caption,split\n" + "".join(f"{k}.png,a grey card {k},{split(k)}\n" for k in range(20)))
    (folder / "own.toml").write_text(
        f'extends = "{TINY}"\nname = "own"\nmetrics = {{ scene = false, round_trip = false }}\n'
        f'[data]\nuse = "files"\npath = "{folder / "captions.csv"}"\n[stages.image.validate]\nfigure = ""\n'
    )
    return folder / "own.toml"


@pytest.mark.slow
def test_a_metric_that_cannot_read_the_data_is_refused_before_the_first_step(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, sets = tmp_path / "run", [f"--set={key}" for key in SHORT]
    assert main(["run", str(table), f"--run-dir={run}", *sets]) == 2
    said = capsys.readouterr().err
    assert "tiny.toml:56: metrics.caption_facts = caption_facts" in said
    assert "read the scenes of the dataset shapes" in said
    assert said.rstrip().endswith("does without it with --set metrics.caption_facts=false, ibllm evaluate with --without caption_facts")
    assert not run.exists()
    assert main(["run", str(table), f"--run-dir={run}", *sets, "--set=metrics.caption_facts=false"]) == 0


@pytest.mark.slow
def test_no_figure_and_no_weight_depends_on_it(tiny, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("IBLLM_BLOCK", "rehearsal")
    Job(tiny("compute.device=cpu", "compute.threads=1"), tmp_path / "run").run()
    assert "listeners/rehearsal" not in json.loads((tmp_path / "run" / "run.json").read_text())["timings"]
    _same(finished, tmp_path / "run")


def _same(one: Path, other: Path) -> None:
    first, second = (load_file(run / "model" / "weights.safetensors") for run in (one, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert _rows(one) == _rows(other)
    for name in ("results.json", "samples/test.json"):
        assert (one / name).read_text() == (other / name).read_text()
    assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}


def _rows(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in ("time", "samples_per_second")} for line in lines]


@pytest.mark.slow
def test_metrics_that_keep_something_or_draw_from_global_generators_are_not_changed_by_it(
    tiny, tmp_path: Path, measured_by, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    class Careless(Mean):
        def __init__(self) -> None:
            self.calls = 0

        def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
            self.calls += 1
            drawn = float(torch.rand(())) + float(np.random.random()) + random.random()
            return {"mean": self.calls + drawn}

    measured_by(Careless)
    recipe = only(tiny, "stages.text.validate.figure='mean'")
    for name in ("with", "without"):
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        Job(recipe, tmp_path / name).run()
        monkeypatch.setenv("IBLLM_BLOCK", "report,rehearsal")
    _same(tmp_path / "with", tmp_path / "without")


@pytest.mark.slow
def test_it_plays_validations_metrics_samples_and_report_and_its_time_is_told(tiny, tmp_path: Path, measured_by) -> None:  # type: ignore[no-untyped-def]
    asked: list[tuple[str, str, int]] = []

    class Asked(Mean):
        def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
            asked.append(("evaluate", evaluation.split, len(evaluation)))
            return super().evaluate(evaluation)

        def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
            asked.append(("record", evaluation.split, len(evaluation)))
            return super().record(evaluation)

        def marks(self, evaluation: Evaluation) -> Mapping[str, Any]:
            asked.append(("marks", evaluation.split, len(evaluation)))
            return {}

    class Looking(Listener):
        def on_rehearsed(self, event: Rehearsed) -> None:
            files = {path.relative_to(event.run_directory).as_posix() for path in event.run_directory.rglob("*") if path.is_file()}
            assert {"recipe.toml", "run.json", "results.json", "samples/test.json"} <= files
            assert not (tmp_path / "run").exists()
            self.where, self.asked = event.run_directory, list(asked)

        def on_model_built(self, event: object) -> None:
            assert not self.where.exists()

    measured_by(Asked)
    looking = Looking()
    Job(only(tiny, "stages.text.validate.figure='mean'"), tmp_path / "run", [looking]).run()
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert looking.asked == [
        ("evaluate", "novel-validation", 2),
        *((what, "test", 2) for what in ("evaluate", "record", "marks")),
    ]
    assert info["hooks"] == {}, "the listener's own assertions hold"
    assert 0 < info["timings"]["listeners/rehearsal"] < 0.5 * sum(info["timings"].values())


@pytest.mark.slow
def test_a_metric_that_needs_more_items_gets_them(tiny, tmp_path: Path, measured_by) -> None:  # type: ignore[no-untyped-def]
    class Needy(Mean):
        def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
            if len(evaluation) < 5:
                raise ValueError("at least 5 items")
            return super().evaluate(evaluation)

    measured_by(Needy)
    with pytest.warns(Notice, match="the rehearsal took all items, since 2 were not enough: at least 5 items"):
        Job(only(tiny), tmp_path / "run").run()


@pytest.mark.slow
def test_a_figure_that_is_no_number_before_the_training_is_told_and_may_be_one_after_it(tiny, tmp_path: Path, measured_by) -> None:  # type: ignore[no-untyped-def]
    class Correlation(Mean):
        def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
            return {"mean": float("nan") if len(evaluation) == 2 else 1.0}

    measured_by(Correlation)
    with pytest.warns(Notice, match=r"metrics\.scene: evaluate on 'test' \(2 items\) gave mean = nan: .* at the end it is an error"):
        Job(only(tiny), tmp_path / "run").run()


def _record(self: Metric, evaluation: Evaluation) -> dict[str, Any]:
    return {"n": np.int64(len(evaluation))}


def _marks(self: Metric, evaluation: Evaluation) -> dict[str, Any]:
    return {"scene": np.ones(len(evaluation) + 1, bool)}


@pytest.mark.parametrize(
    ("method", "wrong", "said"),
    [
        ("record", _record, r"metrics\.scene = scene .*: record gave n = np.int64\(2\): expected a string or a number"),
        ("marks", _marks, r"metrics\.scene = scene .*: marks gave scene of shape \(3,\): expected \(2,\)"),
        ("panels", lambda self, evaluation: ["a title"], r"metrics\.scene = scene .*: panels gave a str: expected a Panel"),
        ("evaluate", lambda self, evaluation: {"mean": "high"}, r"metrics\.scene = scene .* gave mean = 'high': expected a finite number"),
    ],
)
def test_what_is_only_asked_for_at_the_end_is_refused_at_the_start(tiny, tmp_path: Path, measured_by, method, wrong, said) -> None:  # type: ignore[no-untyped-def]
    measured_by(type("Wrong", (Mean,), {method: wrong}))
    with pytest.raises(ComponentFailed, match=said):
        Job(only(tiny), tmp_path / "run").run()
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_that_goes_on_rehearses_too_and_is_left_as_it_was(tiny, tmp_path: Path, measured_by) -> None:  # type: ignore[no-untyped-def]
    stopped = Job(only(tiny), tmp_path / "run")
    stopped.stop()
    measured_by(Mean)
    with pytest.raises(Interrupted):
        stopped.run()
    before = _files(tmp_path / "run")
    measured_by(type("Wrong", (Mean,), {"record": _record}))
    with pytest.raises(ComponentFailed, match="record gave n"):
        Job(only(tiny), tmp_path / "run").run(resume=True)
    assert _files(tmp_path / "run") == before
    measured_by(Mean)
    Job(only(tiny), tmp_path / "run").run(resume=True)


def _files(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
