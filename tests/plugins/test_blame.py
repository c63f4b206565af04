"""An error in the middle of a run is told with the component that it came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ibllm_core.host import manager as plugins
from ibllm_core.host.attribution import ComponentFailed, components_in, explained, within
from ibllm_core.model.build import build_metrics
from ibllm_core.recipe import load
from ibllm_core.training.job import Job

from .test_lifecycle import SETS, TINY

pytestmark = pytest.mark.usefixtures("plain_runs")

METRIC = """
import attrs
from ibllm_core.host.hookspecs import hookimpl
from ibllm_core.interfaces.reporting import Metric
from ibllm.figures import Figure
from ibllm_core.host.options import MetricConfig
from ibllm_core.host.spec import ComponentSpec

@attrs.frozen(kw_only=True)
class Options(MetricConfig):
    def figures(self):
        return (Figure("darkness"),)

class Darkness(Metric):
    def __init__(self, config, context): pass

    def evaluate(self, evaluation):
        pixels = evaluation.real
        if len(pixels) == 2:  # a rehearsal
            return {"darkness": 0.0}
        pixels[:] = 255 - pixels
        return {"darkness": float(pixels.mean())}

@hookimpl
def ibllm_components():
    return [ComponentSpec(kind="metric", name="darkness", factory=f"{__name__}:Darkness", config=f"{__name__}:Options", summary="darkness")]
"""


@pytest.mark.slow
def test_a_metric_that_changes_the_images_is_named(site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    site.install("dark", {"dark": "dark_plugin"}, {"dark_plugin": METRIC}, version="0.2")
    monkeypatch.setattr(plugins, "_manager", plugins._manager.__wrapped__)
    recipe = load(TINY, (*SETS, "stages.image.steps=0", "metrics={darkness={use='darkness'}}"))
    with pytest.raises(ComponentFailed) as caught:
        Job(recipe, tmp_path / "run").run()
    message = str(caught.value)
    assert "metrics.darkness = darkness (provided by dark 0.2) raised ValueError: assignment destination is read-only" in message
    assert f"({site.folder / 'dark_plugin.py'}:21); tell the maintainer of dark, upgrade it, or use another metric" in message
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["status"] == "failed"
    assert info["error"] == f"ComponentFailed: {message}"
    assert "pixels[:] = 255 - pixels" in info["traceback"]


def test_errors_of_nobody_stay_as_they_are() -> None:
    recipe = load(TINY)

    class OutOfMemoryError(RuntimeError):
        pass

    for error in (OutOfMemoryError("no more"), RuntimeError("ours"), KeyboardInterrupt()):
        assert explained(error, recipe) is error


def test_an_error_in_a_library_is_the_part_whose_step_was_computed() -> None:
    recipe = load(TINY)
    with pytest.raises(RuntimeError) as caught, within("model.text_encoder"), within("model.image_encoder"):
        torch.zeros(2) @ torch.zeros(3)
    assert "model.image_encoder = cnn (provided by ibllm" in str(explained(caught.value, recipe))


LOSS = """
import attrs
from ibllm.plugin import ComponentSpec, Loss, LossConfig, hookimpl

@attrs.frozen(kw_only=True)
class Options(LossConfig):
    def needs(self):
        return frozenset({"text_encoder"})

class Once(Loss):
    def __init__(self, config, context):
        super().__init__()

    def forward(self, cycle):
        z = cycle.z_x.pooled  # on the meta device all is well: the contracts find nothing
        return cycle.once("once_plugin.thing", lambda: z.mean() * (1 / int(z.is_meta)))

@hookimpl
def ibllm_components():
    return [ComponentSpec(kind="loss", name="once", factory=f"{__name__}:Once", config=f"{__name__}:Options", summary="fails in a step of its own")]
"""


def test_an_error_in_a_plugins_own_step_is_the_plugins(site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    site.install("once", {"once": "once_plugin"}, {"once_plugin": LOSS}, version="0.3")
    monkeypatch.setattr(plugins, "_manager", plugins._manager.__wrapped__)
    sets = ("losses.mine={use='once'}", "stages.text.losses={image_nll=1.0, mine=1.0}", "stages.image.steps=0", "stages.joint.steps=0")
    with pytest.raises(ComponentFailed, match=r"losses\.mine = once \(provided by once 0\.3\).*ZeroDivisionError"):
        Job(load(TINY, (*SETS, *sets)), tmp_path / "run").run()


def test_a_module_belongs_to_the_component_nearest_to_it() -> None:
    recipe = load(TINY)
    assert components_in("ibllm_transformer.text_decoder", recipe)[0][0] == "model.text_decoder"
    assert components_in("ibllm_shapes.render", recipe)[0] == ("data", recipe.data)
    assert components_in("ibllm_core.model.cycle", recipe) == []
    assert components_in("ibllm", recipe) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "raise ValueError('keep = 7: expected a divisor of 12')",
            "metrics.picky = picky (provided by picky 0.3): keep = 7: expected a divisor of 12",
        ),
        (
            "raise OptionError('keep', 7, 'a divisor of 12')",
            "metrics.picky = picky (provided by picky 0.3): keep = 7: expected a divisor of 12",
        ),
        (
            "import numpy; numpy.zeros(7).reshape(2, 2)",
            "(provided by picky 0.3): ValueError: cannot reshape array of size 7 into shape (2,2)",
        ),
        ("int('seven')", "(provided by picky 0.3): ValueError: invalid literal for int()"),
    ],
    ids=["ValueError", "OptionError", "of numpy", "of Python"],
)
def test_a_value_that_a_component_refuses_when_it_is_built_is_the_users_mistake(
    site, tmp_path: Path, monkeypatch, line: str, said: str
) -> None:  # type: ignore[no-untyped-def]
    """Told with the recipe's line. What fails on its own is the maintainer's, who is named."""
    source = METRIC.replace("config, context): pass", f"config, context):\n        {line}").replace("darkness", "picky")
    source = source.replace("import attrs\n", "import attrs\nfrom ibllm.plugin import OptionError\n", 1)
    site.install("picky", {"picky": "picky_plugin"}, {"picky_plugin": source}, version="0.3")
    monkeypatch.setattr(plugins, "_manager", plugins._manager.__wrapped__)
    file = tmp_path / "mine.toml"
    file.write_text(f'format = 1\nextends = "{TINY}"\n[metrics.picky]\nuse = "picky"\n', encoding="utf-8")
    recipe = load(file)
    with pytest.raises(ComponentFailed) as caught:
        build_metrics(recipe)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{file}:3: ") or f"{file}:4: " in str(caught.value)
    assert ("tell the maintainer of picky" in str(caught.value)) == ("expected a divisor" not in said)
