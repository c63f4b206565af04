"""What components answer while a recipe is read and a run goes on: checked where it enters the core, and whose fault it is is said."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest
from ibllm_cli.main import main

from ibllm_core.errors import Notice
from ibllm_core.host import manager as plugins
from ibllm_core.host.attribution import ComponentFailed, PluginError, WrongAnswer, explained, naming
from ibllm_core.host.options import DatasetConfig
from ibllm_core.interfaces.batch import take
from ibllm_core.interfaces.dataset import Dataset, Samples
from ibllm_core.interfaces.reporting import Metric
from ibllm_core.model import build
from ibllm_core.model.evaluation import Evaluation, evaluate
from ibllm_core.recipe import Recipe, load
from ibllm_core.recipe.draft import check_answers
from ibllm_core.recipe.locate import RecipeErrors
from ibllm_core.training.events import Bus, RunClosed
from ibllm_core.training.job import Job
from ibllm_core.training.listeners import Tracking
from tests.conftest import Site

from .test_lifecycle import SETS, TINY

HEAD = """
import sys
import attrs
from ibllm_core.host.hookspecs import hookimpl
from ibllm_core.interfaces.reporting import Metric
from ibllm.figures import Figure
from ibllm_core.host.options import MetricConfig
from ibllm_core.host.spec import ComponentSpec

@attrs.frozen(kw_only=True)
class Options(MetricConfig):
    def figures(self):
        return (Figure("oddity"),)
"""
METRIC = """
class Odd(Metric):
    def __init__(self, config, context): pass
    def evaluate(self, evaluation):
        {body}

class Even(Odd):
    pass

@hookimpl
def ibllm_components():
    return [
        ComponentSpec(kind="metric", name=name, factory=f"odd_plugin:{{name.title()}}", config="odd_plugin:Options", summary="odd")
        for name in ("even", "odd")
    ]
"""


@pytest.fixture
def odd(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, ...]]:
    """``odd(body, options="", use="odd")``: a distribution with the metrics even and odd; gives the overrides that use one."""

    def install(body: str, options: str = "", use: str = "odd") -> tuple[str, ...]:
        site.install("odd-dist", {"odd": "odd_plugin"}, {"odd_plugin": HEAD + options + METRIC.format(body=body)}, version="0.2")
        monkeypatch.setattr(plugins, "_manager", plugins._manager.__wrapped__)
        return (*SETS, f"metrics={{oddity={{use='{use}'}}}}")

    return install


class Given(Dataset):
    """A dataset of one-channel images that gives what it is told to."""

    image_shape = (1, 4, 4)

    def __init__(self, **samples: Any) -> None:
        self.given = samples

    def sizes(self) -> dict[str, int]:
        return {"train": 3}

    def samples(self, split: str, indices: Any) -> Samples:
        fine = {"indices": indices, "images": np.zeros((len(indices), 4, 4, 1), np.uint8), "captions": ["a", "b", "c"][: len(indices)]}
        return Samples(**fine | self.given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"images": np.zeros((3, 1, 4, 4), np.uint8)}, "images of uint8 (3, 1, 4, 4): expected an array, uint8 (3, 4, 4, 1) (b h w c)"),
        ({"images": np.full((3, 4, 4, 1), np.nan)}, "images of float64 (3, 4, 4, 1): expected"),
        ({"images": [[1]]}, "images of a list"),
        ({"captions": ["a"]}, "captions that are not 3 strings"),
        ({"captions": "abc"}, "captions that are not 3 strings"),
        ({"languages": [1, 2, 3]}, "languages that are not 3 strings"),
        ({"groups": [0, 0, 1]}, "groups that are not an array of 3 int64"),
        ({"groups": np.zeros(2, np.int64)}, "groups that are not an array of 3 int64"),
        ({"indices": np.arange(2)}, "2 indices: expected 3"),
    ],
)
def test_samples_of_the_wrong_shape_are_the_datasets_fault(given: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongAnswer) as caught:
        take(Given(**given), "train", np.arange(3), "unpaired.text")
    assert caught.value.key == "unpaired.text"
    assert said in caught.value.problem


def test_a_dataset_cannot_change_the_numbers_it_is_asked_for() -> None:
    class Shifts(Given):
        def samples(self, split: str, indices: Any) -> Samples:
            indices += 1
            return super().samples(split, indices)

    asked = np.arange(3)
    with pytest.raises(ValueError, match="read-only"):
        take(Shifts(), "train", asked)
    assert asked.tolist() == [0, 1, 2]


def test_no_metric_can_change_what_another_reads() -> None:
    model: Any = SimpleNamespace(caption=lambda images, batch: ["x", "y", "z"], generate=lambda *_, **__: np.zeros((3, 4, 4, 1), np.uint8))
    evaluation = Evaluation(model, Given(truth=["t", {"k": [1]}]), "train", items=3)
    for name in ("captions", "languages", "read", "reread", "real", "generated", "indices", "hashes"):
        with pytest.raises((TypeError, ValueError)):
            getattr(evaluation, name)[0] = getattr(evaluation, name)["captions" if name == "hashes" else 1]
    with pytest.raises(TypeError):
        evaluation.samples.truth[1]["k"] = 2
    for shared in ([1, 2], np.arange(2), {0: 1}):
        with pytest.raises((TypeError, ValueError)):
            evaluation.once(f"test.{type(shared)}", lambda shared=shared: shared)[0] = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"oddity": float("nan")}, "oddity = nan: expected a finite number"),
        ({"oddity": np.float32("inf")}, "expected a finite number"),
        ({"oddity": "0.5"}, "oddity = '0.5': expected a finite number"),
        ({"oddity": None}, "oddity = None: expected a finite number"),
        ({"other": 1.0}, "no oddity, which its config's figures() names"),
        (0.5, "a float: expected a table of figures by name"),
        (None, "a NoneType: expected a table"),
    ],
)
def test_figures_that_are_no_numbers_are_the_metrics_fault(found: Any, said: str) -> None:
    class Gives(Metric):
        def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
            result: dict[str, float] = found
            return result

    with pytest.raises(WrongAnswer) as caught:
        evaluate(SimpleNamespace(), Given(), {"m": Gives()}, "train", items=3, declared={"m": ("oddity",)})  # type: ignore[arg-type]
    assert caught.value.key == "metrics.m"
    assert said in caught.value.problem


def test_a_wrong_answer_is_told_with_provider_and_remedy(odd) -> None:  # type: ignore[no-untyped-def]
    recipe = load(TINY, odd("return {}"))
    told = explained(WrongAnswer("metrics.oddity", "evaluate gave nothing"), recipe)
    assert isinstance(told, ComponentFailed)
    assert "metrics.oddity = odd (provided by odd-dist 0.2): evaluate gave nothing; tell the maintainer of odd-dist, upgrade it" in str(
        told
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("    def needs(self):\n        raise KeyError('lost')\n", "odd-dist==0.2: the config of metric.odd: KeyError: 'lost' ("),
        ("    def provides(self):\n        sys.exit('bye')\n", "SystemExit: bye ("),
        ("    def provides(self):\n        return None\n", "its provides() gave None, expected a frozenset of strings"),
        ("    def figures(self):\n        return ('odd',)\n", "its figures() gave ('odd',), expected a tuple of Figure"),
        ("    def marks(self):\n        return 'odd'\n", "its marks() gave 'odd', expected a tuple of Mark"),
    ],
)
def test_a_config_that_fails_is_a_mistake_with_its_provider(odd, capsys, options: str, said: str) -> None:  # type: ignore[no-untyped-def]
    sets = odd("return {}", options)
    with pytest.raises(RecipeErrors) as caught:
        load(TINY, sets)
    assert said in str(caught.value)
    assert "upgrade or uninstall odd-dist" in str(caught.value)
    assert main(["plugins", "show", "metric.odd"]) == 2
    assert said in capsys.readouterr().err


@attrs.frozen(kw_only=True)
class Halves(DatasetConfig):
    """A dataset's options: two splits, of which it validates on the one and reports the other."""

    def splits(self) -> Mapping[str, str]:
        return {"train": "one half", "test": "the other half"}

    def validation_split(self) -> str:
        return "train"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (3, 8, 8)


@pytest.mark.parametrize(
    ("method", "answer", "said"),
    [
        ("splits", ("train", "test"), "its splits() gave ('train', 'test'), expected a table of strings by name with 'train'"),
        ("splits", {"test": "all"}, "expected a table of strings by name with 'train'"),
        ("validation_split", "held-out", "its validation_split() gave 'held-out', expected one of train, test"),
        ("reported_splits", ("train", "test"), "its reported_splits() gave ('train', 'test'), expected a tuple of test"),
        ("reported_splits", (), "its reported_splits() gave ()"),
        ("primary_split", "train", "its primary_split() gave 'train', expected one of test"),
    ],
)
def test_a_dataset_says_which_splits_it_has_and_what_for(method: str, answer: object, said: str) -> None:
    check_answers(Halves())
    broken = type("Broken", (Halves,), {method: lambda self: answer})
    with pytest.raises(PluginError) as caught:
        check_answers(broken())
    assert said in str(caught.value)


def test_what_a_config_prints_is_not_output(odd, capsys) -> None:  # type: ignore[no-untyped-def]
    load(TINY, odd("return {}", "    def needs(self):\n        print('hello')\n        return frozenset({'data.pairs'})\n"))
    out, err = capsys.readouterr()
    assert out == ""
    assert "[odd-dist==0.2] hello\n" in err


@pytest.mark.parametrize(
    ("init", "said"),
    [
        (
            "raise RuntimeError('no')",
            r"RuntimeError: no \(.*odd_plugin\.py:\d+\); tell the maintainer of odd-dist, upgrade it, or use another",
        ),
        ("sys.exit(0)", r"SystemExit: 0 \(.*odd_plugin\.py:\d+\); tell the maintainer"),
    ],
)
def test_a_factory_that_fails_has_a_remedy(odd, init: str, said: str) -> None:  # type: ignore[no-untyped-def]
    sets = odd(f"return {{}}\n\n    def __init__(self, config, context):\n        {init}")
    with pytest.raises(ComponentFailed, match=rf"metrics\.oddity = odd \(provided by odd-dist 0\.2\): {said}"):
        build.build_metrics(load(TINY, sets))


def test_of_components_in_one_module_the_one_that_raised_is_named(odd) -> None:  # type: ignore[no-untyped-def]
    recipe = load(TINY, (*odd("raise RuntimeError('which?')")[:-1], "metrics={first={use='even'},second={use='odd'}}"))
    metrics = build.build_metrics(recipe)
    for name in ("second", "first"):
        with pytest.raises(ComponentFailed, match=rf"metrics\.{name} = .* raised RuntimeError: which\?"), naming(recipe):
            metrics[name].evaluate(None)  # type: ignore[arg-type]


def test_a_tracker_that_cannot_close_hides_nothing(odd, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    recipe: Recipe = load(TINY, odd("sys.exit('not now')"))
    metric, component = build.build_metrics(recipe)["oddity"], recipe.metrics["oddity"]
    closed: list[str] = []
    bad = SimpleNamespace(close=lambda: metric.evaluate(None))  # type: ignore[arg-type]
    bus = Bus()
    bus.add(Tracking("bad", component, bad), Tracking("good", component, SimpleNamespace(close=lambda: closed.append("good"))))  # type: ignore[arg-type]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bus.emit(RunClosed(tmp_path, "done"))
    assert closed == ["good"]
    assert [w.category for w in caught] == [Notice]
    assert "the listener 'bad' (odd-dist==0.2) raised SystemExit: not now" in str(caught[0].message)
    assert list(bus.record()) == ["listeners/bad"]


@pytest.mark.slow
def test_a_metric_that_ends_the_process_ends_the_run_under_its_name(odd, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    sets = odd("print('measuring the odd')\n        sys.exit(0)")
    words = [word for key in (*sets, "stages.image.steps=0") for word in ("--set", key)]
    assert main(["run", str(TINY), "--run-dir", str(tmp_path / "run"), *words]) == 2
    out, err = capsys.readouterr()
    assert "measuring the odd" in err
    assert "measuring the odd" not in out
    assert "metrics.oddity = odd (provided by odd-dist 0.2) raised SystemExit: 0 (" in err
    assert "stage 1/1 text" not in out, "it is met in the rehearsal"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_nan_never_gets_into_the_results(odd, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    sets = (*odd("return {'oddity': float('nan')}"), "stages.image.steps=0")
    with pytest.raises(
        ComponentFailed, match=r"odd-dist 0\.2\): evaluate on '.*' \(4 items\) gave oddity = nan.*tell the maintainer of odd-dist"
    ):
        Job(load(TINY, sets), tmp_path / "run").run()
    assert not (tmp_path / "run" / "results.json").exists()
    assert (tmp_path / "run" / "model").is_dir(), "what was trained is kept"
