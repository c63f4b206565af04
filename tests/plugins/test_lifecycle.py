"""Lifecycle hooks: the documented examples work, only plugins that the recipe names are told, and none can harm the run or go unnoticed."""

from __future__ import annotations

import inspect
import json
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from ibllm_core.errors import Notice
from ibllm_core.host import hookspecs
from ibllm_core.host import manager as plugins
from ibllm_core.host.manager import QUESTION, hook_names
from ibllm_core.recipe import Recipe, load
from ibllm_core.recipe.locate import RecipeErrors
from ibllm_core.training.job import Interrupted, Job
from ibllm_core.training.loop import Diverged
from tests.conftest import Site

pytestmark = pytest.mark.slow

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
SETS = (
    "compute.device=cpu",
    "compute.threads=1",
    "stages.text.steps=4",
    "stages.text.validate.every=2",
    "stages.text.validate.items=4",
    "stages.image.steps=1",
    "stages.joint.steps=0",
    "evaluation.items=4",
    "evaluation.after_stage=4",
    "evaluation.samples=1",
    "trackers.tensorboard=false",
)
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "hooks.py"
LIFECYCLE = [name for name in hook_names() if name != QUESTION]


@pytest.fixture
def installed(site: Site) -> Iterator[Callable[..., None]]:
    """``installed(source, plugin="watcher")``: a distribution with the plugin, seen by this process's manager."""

    def install(source: str, plugin: str = "watcher", version: str = "1.5") -> None:
        site.install(f"{plugin}-dist", {plugin: f"{plugin}_plugin"}, {f"{plugin}_plugin": source}, version=version)
        plugins._manager.cache_clear()

    plugins._manager.cache_clear()
    yield install
    plugins._manager.cache_clear()


def recipe(*sets: str) -> Recipe:
    return load(TINY, (*SETS, *sets))


WATCHER = 'plugins.hooks=["watcher"]'


def train(folder: Path, *sets: str) -> dict[str, Any]:
    """Trains and gives what run.json says."""
    Job(recipe(*sets), folder).run()
    info: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return info


def recorder(*hooks: str, body: str = "pass") -> str:
    """A plugin that writes down what it is told, in the order of the calls."""
    lines = ["import json", "from ibllm_core.host.hookspecs import hookimpl", "CALLS = []"]
    for hook in hooks:
        names = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
        lines += ["@hookimpl", f"def {hook}({names}):", f"    CALLS.append(({hook!r}, dict(locals())))", f"    {body}"]
    return "\n".join(lines) + "\n"


def calls() -> list[tuple[str, dict[str, Any]]]:
    import watcher_plugin  # type: ignore[import-not-found]

    found: list[tuple[str, dict[str, Any]]] = watcher_plugin.CALLS
    return found


@pytest.mark.parametrize("hook", LIFECYCLE)
def test_every_argument_of_a_hook_is_described_once_for_all(hook: str) -> None:
    shared = (hookspecs.__doc__ or "").partition("Args:\n")[2]
    described = re.findall(r"^    (\w+): ", shared, re.MULTILINE)
    assert set(inspect.signature(getattr(hookspecs, hook)).parameters) <= set(described)


def test_the_examples_do_what_they_say(installed, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    head, _, *others = EXAMPLES.read_text(encoding="utf-8").split("\n\n\n# ")  # the first is ibllm_components
    installed("\n\n\n# ".join([head, *others]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)  # an example that raises would be contained
        train(tmp_path / "run", WATCHER)
    run = tmp_path / "run"
    assert capfd.readouterr().err == "[watcher-dist==1.5] tiny: 5 steps in all\n"
    assert "parts.text_encoder." in (run / "parameters.txt").read_text()
    assert (run / "stages.txt").read_text().splitlines()[0] == "text from step 0: text_encoder, image_decoder"
    assert re.fullmatch(r"text,1,\d+\.\d{4}", (run / "norms.csv").read_text().splitlines()[0])
    assert (run / "improvements.txt").read_text().startswith("text 2: {'loss': ")
    assert {path.name for path in run.glob("after-*")} == {"after-text.safetensors", "after-image.safetensors"}
    assert (tmp_path / "runs.txt").read_text().startswith("run (tiny): ")
    assert "parts.text_encoder." in (run / "report.html").read_text().partition("<h3>Norms")[2].partition("</table>")[0]
    with pytest.raises(
        Diverged, match="Every part and loss gives numbers where training stood before\\. Where every part is sound, a lower"
    ):
        train(tmp_path / "failed", WATCHER, "optimizer={use='sgd', lr=1e30}", "training.clip=0", "training.log_every=1")
    assert f"[watcher-dist==1.5] tiny failed in {tmp_path / 'failed'}: stage text, step" in capfd.readouterr().err


def test_hooks_are_told_everything_in_order(installed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    installed(recorder(*LIFECYCLE))
    info = train(tmp_path / "run", WATCHER)
    told = [(name.removeprefix("ibllm_"), found.get("step")) for name, found in calls()]
    assert told == [
        ("recipe_loaded", None), ("model_built", None),
        ("stage_started", 0), ("step_ended", 1), ("step_ended", 2), ("validation_ended", 2),
        ("step_ended", 3), ("step_ended", 4), ("validation_ended", 4), ("stage_ended", 4),
        ("stage_started", 0), ("step_ended", 1), ("validation_ended", 1), ("stage_ended", 1),
        ("run_ended", None),
    ]  # fmt: skip
    last = calls()[-1][1]
    assert last["figures"] == json.loads((tmp_path / "run" / "results.json").read_text())
    assert last["run_directory"] == tmp_path / "run"
    assert last["recipe"].name == "tiny"
    with pytest.raises(TypeError):
        last["figures"]["test/scene_exact"] = 1.0
    assert info["hooks"]["watcher"] == {"distribution": "watcher-dist", "version": "1.5", "hooks": LIFECYCLE, "errors": []}
    assert info["provenance"]["plugins.hooks.watcher"] == {"component": "watcher", "distribution": "watcher-dist", "version": "1.5"}


def test_a_plugin_that_the_recipe_does_not_name_is_told_nothing(installed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    installed(recorder(*LIFECYCLE))
    info = train(tmp_path / "run")
    assert calls() == []
    assert info["hooks"] == {}
    assert not any(name.startswith("hooks/") for name in info["timings"])


TRACKER = """
from ibllm_core.interfaces.reporting import Tracker
from ibllm_core.host.spec import ComponentSpec
from ibllm_core.host.options import Config as Options

class Silent(Tracker):
    def __init__(self, config, context): pass
    def open(self, directory, step, recipe): pass
    def scalars(self, values, step): pass
    def image(self, name, image, step): pass
    def close(self): pass

@hookimpl
def ibllm_components():
    return [ComponentSpec(kind="tracker", name="silent", factory=f"{__name__}:Silent", config=f"{__name__}:Options", summary="nothing")]
"""


def test_a_plugin_is_named_by_a_component_of_its_own(installed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    installed(recorder("ibllm_stage_started") + TRACKER)
    train(tmp_path / "run", "trackers.silent.use='silent'")
    assert [found["stage"].name for _, found in calls()] == ["text", "image"]


def test_a_hook_that_raises_is_blamed_and_changes_nothing(installed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    installed(recorder("ibllm_step_ended", "ibllm_stage_ended", "ibllm_run_ended", body="raise KeyError('oh')"))
    with pytest.warns(Notice) as caught:
        info = train(tmp_path / "hooked", WATCHER)
    train(tmp_path / "plain")
    told = [str(warning.message) for warning in caught if issubclass(warning.category, Notice)]
    assert len(told) == 3, "each hook is said to be broken once"
    assert re.fullmatch(
        r"ibllm_step_ended of the plugin 'watcher' \(watcher-dist==1\.5\) raised KeyError: 'oh' \(.*watcher_plugin\.py:7\); "
        r"the run goes on without it\. Tell its maintainer, or upgrade watcher-dist",
        told[0],
    )
    assert len(calls()) == 3, "and is not called again"
    errors = info["hooks"]["watcher"]["errors"]
    assert [error["hook"] for error in errors] == ["ibllm_step_ended", "ibllm_stage_ended", "ibllm_run_ended"]
    assert info["status"] == "done"
    hooked, plain = (load_file(tmp_path / name / "model" / "weights.safetensors") for name in ("hooked", "plain"))
    assert all((hooked[name] == plain[name]).all() for name in plain)
    results = [(tmp_path / name / "results.json").read_text() for name in ("hooked", "plain")]
    assert results[0] == results[1]


def test_what_hooks_take_is_a_timing_of_the_plugin_and_not_of_the_stage(installed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    installed(recorder("ibllm_step_ended", "ibllm_run_ended", body="__import__('time').sleep(1.0)"))
    info = train(tmp_path / "run", WATCHER, "stages.image.steps=0", "stages.text.steps=2")
    assert 3.0 <= info["timings"]["hooks/watcher"] < 3.5
    assert info["timings"]["text"] < 2.0
    assert "hooks/watcher" in (tmp_path / "run" / "report.html").read_text()


def test_a_resumed_run_keeps_timings_and_errors(installed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    installed(recorder("ibllm_stage_started", body="__import__('time').sleep(0.3); raise OSError('full')"))
    job = Job(recipe(WATCHER), tmp_path / "run")
    job.stop()
    with pytest.warns(Notice), pytest.raises(Interrupted):
        job.run()
    with pytest.warns(Notice):
        Job(recipe(WATCHER), tmp_path / "run").run(resume=True)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["timings"]["hooks/watcher"] >= 0.6
    assert [error["error"].partition(" (")[0] for error in info["hooks"]["watcher"]["errors"]] == ["OSError: full"] * 2
    assert [found["step"] for _, found in calls()] == [0, 1]


def test_what_a_recipe_asks_for_has_to_be_there(installed, source) -> None:  # type: ignore[no-untyped-def]
    installed(recorder("ibllm_run_ended"))
    installed(source(), plugin="parts")
    installed("1 / 0", plugin="broken", version="0.3")
    with pytest.raises(RecipeErrors) as caught:
        recipe('plugins.hooks=["watchr", "parts", "broken", "watcher"]')
    message = str(caught.value)
    assert "no plugin is called 'watchr'\n    expected: watcher\n    did you mean: watcher" in message
    assert "the plugin 'parts' implements no lifecycle hook" in message
    assert "the plugin 'broken' is broken: broken-dist==0.3: ZeroDivisionError" in message
    assert "3 mistakes" in message
