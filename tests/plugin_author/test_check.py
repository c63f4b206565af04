"""``ibllm plugin check`` on packages that do what they should, and on some that do not. Schedules are used, whose checks are quick."""

from __future__ import annotations

import json
import sys

import pytest
from ibllm_author import checked_package, contract, imports, process, review
from ibllm_testing import ScheduleSuite, cover, speed
from ibllm_testing.fixtures import run_command

from ibllm_core.errors import UserError
from ibllm_core.host import manager as plugins
from tests import processes

MODULE = """
import attrs

from ibllm_core.interfaces.optimisation import Schedule
from ibllm_core.host.options import Config, option

@attrs.frozen(kw_only=True)
class Options(Config):
    "A test's."
    low: float = option({default}help={help!r})

class Flat(Schedule):
    {doc!r}
    def __init__(self, config, context):
        self.low = config.low
    def factor(self, step, steps):
        return {factor}
"""


@pytest.fixture
def package(site, source, monkeypatch):
    """Installs ``flat-rate``, whose plugin `flat` brings schedule.flat; a process manager sees it."""

    def install(
        factor: str = "self.low", default: str = "0.5, ", help: str = "the factor", doc: str = "Always the same.", head: str = ""
    ) -> None:
        name = "flat_rate"
        listed = head + source("schedule", "flat", f"{name}.part:Flat", f"{name}.part:Options")
        module = MODULE.format(factor=factor, default=default, help=help, doc=doc)
        site.install("flat-rate", {"flat": f"{name}.plugin"}, {f"{name}.__init__": "", f"{name}.plugin": listed, f"{name}.part": module})
        monkeypatch.setattr(plugins, "_manager", lambda block: plugins.Manager(block))

    return install


@pytest.fixture
def forked(monkeypatch):
    """The suites and the measurements of speed run in processes that have torch imported."""
    monkeypatch.setattr(sys, "executable", processes.executable())


def check(*words: object) -> tuple[int, dict]:
    done = run_command("plugin", "check", *words, "--json")
    return done.code, json.loads(done.stdout)


@pytest.mark.slow
def test_a_sound_package(package, forked):
    package()
    code, found = check("Flat_Rate")
    assert (code, found["passed"], found["distribution"], found["plugins"]) == (0, True, "flat-rate", ["flat"])
    (component,) = found["components"]
    verdict = component["contract"]
    assert (component["kind"], component["name"], verdict["status"], verdict["failures"]) == ("schedule", "flat", "passed", {})
    assert verdict["checks"] >= 8
    timed = component["speed"]
    assert timed["reference"] == "schedule.cosine"
    assert timed["lowest"] <= timed["ratio"] <= timed["highest"]
    assert component["undocumented"] == []
    assert found["import"]["modules"] == ["flat_rate.plugin", "flat_rate.part"]
    assert found["import"]["heavy"] == []
    assert found["import"]["ratio"] > 1
    assert found["import"]["milliseconds"] > 0
    assert found["undocumented"] == [
        "no description (project.description)",
        "no README (project.readme)",
        "no address (project.urls: Homepage or Documentation)",
        "no licence (project.license)",
    ]


@pytest.mark.slow
def test_a_package_that_breaks_its_contract_in_words(package, forked):
    package(factor="-1 if step else 1 / 0", help="", doc="")
    done = run_command("plugin", "check", "flat", "--against", "schedule.step")
    assert done.code == 1
    assert "schedule.flat: 4 of " in done.stdout
    assert "every option says what it means: schedule.flat: options without help: low" in done.stdout
    assert "it is defined for every step: ZeroDivisionError: division by zero (" in done.stdout
    assert "part.py:" in done.stdout
    assert "could not be measured: ZeroDivisionError: division by zero" in done.stdout
    assert "schedule.flat: options without help: low; its factory Flat has no docstring" in done.stdout


def test_a_part_that_wants_options_gets_them(package, monkeypatch):
    package(default="")
    found = checked_package.subject(plugins.manager(), "flat-rate", (), "")
    assert found.components[0].hindrance == "it has options without a default; give them: --set schedule.flat.low=…"
    monkeypatch.setattr(contract, "python", None)  # nothing is run for what cannot be tried
    assert contract.run(found)["schedule.flat"].status == "untested"
    given = checked_package.subject(plugins.manager(), "flat-rate", ["schedule.flat.low=0.25"], "")
    assert (given.components[0].options, given.components[0].hindrance) == ({"low": 0.25}, "")


PRESETS = """
["schedule"."flat"]
options = { low = 0.0 }
excuses = { test_it_moves_at_all = "it stands still on purpose" }

["schedule"."flat/half"]
options = { low = 0.5 }
"""


@pytest.mark.slow
def test_a_package_says_itself_how_its_parts_are_tested(package, site, forked):
    """Options, variants and excuses come from its conformance.toml; what is excused is counted and shown with its reason."""
    package(default="")
    (site.folder / "flat_rate" / "conformance.toml").write_text(PRESETS, encoding="utf-8")
    found = checked_package.subject(plugins.manager(), "flat-rate", (), "")
    assert (found.components[0].options, found.components[0].hindrance) == ({"low": 0.0}, "")
    assert checked_package.subject(plugins.manager(), "flat-rate", ["schedule.flat.low=1"], "").components[0].options == {"low": 1}
    verdict = contract.run(found)["schedule.flat"]
    assert (verdict.status, verdict.failures) == ("passed", {})
    assert verdict.excused == {"it moves at all": "it stands still on purpose"}
    checks = len([name for name in dir(ScheduleSuite) if name.startswith("test_")])
    once = len(ScheduleSuite.once)  # of the component, and not of its variant
    assert 0 < once < checks
    assert verdict.checks == 2 * checks - once
    lines = review._contract("schedule.flat", verdict)
    assert lines[0].startswith(f"  schedule.flat: {2 * checks - once - 1} checks passed, 1 excused, ")
    assert lines[1] == "    excused: it moves at all: it stands still on purpose"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[schedul.flat]\n", "no kind 'schedul'; did you mean 'schedule'?"),
        ("schedule = 3\n", r"expected a table \[schedule.NAME\]"),
        ("[schedule\n", "conformance.toml cannot be read"),
    ],
)
def test_presets_that_cannot_be_read_are_named(package, site, text, message):
    package()
    (site.folder / "flat_rate" / "conformance.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        checked_package.subject(plugins.manager(), "flat-rate", (), "")


def test_presets_name_what_the_suite_and_the_package_have(package, site):
    package()
    presets = site.folder / "flat_rate" / "conformance.toml"
    presets.write_text("[schedule.flat]\noption = { low = 1.0 }\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=r"the presets of schedule\.flat give 'option'; did you mean 'options'"):
        cover(ScheduleSuite, "flat-rate")
    presets.write_text("[schedule.flet]\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="presets for flet, which flat-rate does not offer as schedule: flat"):
        cover(ScheduleSuite, "flat-rate")
    presets.write_text("[schedule.flat]\noptions = { low = 0.25 }\nlengths = [3]\n", encoding="utf-8")
    made = cover(ScheduleSuite, "flat-rate", {"flat/half": {"options": {"low": 0.5}}})
    assert {name: (cls.options, cls.lengths) for name, cls in made.items()} == {
        "Test_flat": ({"low": 0.25}, (3,)),
        "Test_flat/half": ({"low": 0.5}, ScheduleSuite.lengths),
    }


def test_a_plugin_that_does_not_load_fails(package, capsys):
    package(head="import nothing_like_it\n")
    code, found = check("flat-rate")
    assert (code, found["passed"], found["components"]) == (1, False, [])
    assert "No module named 'nothing_like_it'" in found["faults"]["plugin 'flat'"]
    assert "nothing_like_it" in found["import"]["error"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ibllmm"], "no package 'ibllmm' is installed that brings a plugin; did you mean 'ibllm'?"),
        (["transformr"], "no package 'transformr' is installed that brings a plugin; did you mean 'transformer'?"),
        (["click"], 'is installed but registers no plugin (entry-point group "ibllm")'),
        (["bag", "--set", "text_encoder.bag=1"], "expected KIND.NAME.KEY=VALUE"),
        (["bag", "--set", "text_encodr.bag.width=1"], "no kind 'text_encodr'; did you mean 'text_encoder'?"),
        (["bag", "--set", "text_encoder.bog.width=1"], "expected a component of bag; did you mean text_encoder.bag?"),
        (["bag", "--data", "shape"], "--data shape: expected one of "),
        (["bag", "--against", "text_encoder.lst"], "expected KIND.NAME of an installed component; did you mean text_encoder.lstm?"),
    ],
)
def test_mistakes_of_the_command(words, message):
    done = run_command("plugin", "check", *words)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr


def test_without_pytest_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytest", None)
    with pytest.raises(UserError, match="needs pytest, which runs the conformance suites: pip install pytest"):
        contract.require_pytest()


def test_values_are_toml_or_strings():
    found = checked_package.read_sets(["loss.a.x=[1, 2]", "loss.a.y=word", "loss.b.z=true"])
    assert found == {"loss.a": {"x": [1, 2], "y": "word"}, "loss.b": {"z": True}}


def test_metrics_are_measured_on_the_packages_own_dataset():
    found = checked_package.subject(plugins.manager(), "shapes", ["dataset.shapes.evaluation_size=64"], "")
    metrics = [component for component in found.components if component.kind == "metric"]
    assert {c.name for c in metrics} == {"scene", "caption_facts", "round_trip", "residual", "placement_spread", "vqa", "vqg"}
    assert all(c.surroundings == {"dataset": ("shapes", {"evaluation_size": 64}), "split": "test"} for c in metrics)
    general = checked_package.subject(plugins.manager(), "metrics", (), "").components
    assert {tuple(c.surroundings) for c in general} == {()}
    assert checked_package.subject(plugins.manager(), "metrics", (), "shapes").components[0].surroundings["dataset"] == ("shapes", {})


@pytest.mark.parametrize("kind", speed.REFERENCES)
def test_every_kind_has_a_reference_that_can_be_timed(kind, tmp_path):
    import torch

    name, options = speed.REFERENCES[kind]
    call, what = speed.work(speed._suite(kind, name, options, {}), torch.device("cpu"), tmp_path)
    call()
    assert what


@pytest.mark.parametrize(
    ("kind", "name", "wanted"),
    [
        ("image_decoder", "maskgit", "vq_transformer"),
        ("image_decoder", "dcgan", "cnn"),
        ("loss", "hinge", "relativistic"),
        ("loss", "wgan_gp", "relativistic"),
        ("loss", "matching_aware_penalty", "gradient_penalty"),
        ("loss", "masked_text", "text_nll"),
        ("loss", "kl", "image_nll"),
    ],
)
def test_the_reference_does_similar_work(kind, name, wanted):
    assert speed.reference(kind, plugins.manager().config_class(kind, name)())[0] == wanted


def test_ratios_are_of_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])

    def takes(seconds: float):
        def work() -> None:
            now[0] += seconds

        return work

    found = speed.compare(takes(0.03), takes(0.01))
    assert (found["ratio"], found["lowest"], found["highest"], found["milliseconds"]) == (3.0, 3.0, 3.0, [30.0, 10.0])
    assert speed.compare(takes(10.0), takes(20.0))["rounds"] == 3


def test_a_module_that_cannot_be_imported_is_told():
    assert "No module named 'nothing_like_it'" in imports.cost(["nothing_like_it"]).error


def test_what_a_plugin_prints_at_the_end_is_not_mistaken_for_an_answer(site):
    site.install("late", {}, {"late_options": "import atexit\natexit.register(print, 'goodbye')\n"})
    found = imports.cost(["late_options"])
    assert (found.error, found.ratio > 0) == ("", True)


def test_a_process_that_says_nothing_or_takes_for_ever_is_told(monkeypatch):
    with pytest.raises(process.NoAnswer, match="it ended with exit code 0 and said nothing"):
        process.ask("-c", "import os; os._exit(0)")
    monkeypatch.setattr(process, "PATIENCE", 0.5)
    with pytest.raises(process.NoAnswer, match=r"it was not done after 0\.5 s and was ended"):
        process.ask("-c", "import time; time.sleep(60)")


def test_components_whose_names_begin_alike_are_judged_apart(monkeypatch, forked):
    """foo beside foo_bar, a-b beside a_b, as pytest itself names their classes."""
    wrong = {"foo": False, "foo_bar": True, "a-b": True, "a_b": False, "c.d": True}
    module = (
        "from ibllm_testing.cover import title\n"
        "def made(wrong):\n    def test(self):\n        assert not wrong\n    return type('T', (), {'test_it': test})\n"
        f"globals().update({{title(name): made(wrong) for name, wrong in {wrong}.items()}})\n"
    )
    monkeypatch.setattr(contract, "_module", lambda *_: module)
    tried = tuple(checked_package.Component("loss", name, "", {}) for name in wrong)
    found = contract.run(checked_package.Subject("some", "1", ("some",), tried, {}))
    assert {label: (v.status, v.checks) for label, v in found.items()} == {
        f"loss.{name}": ("failed" if bad else "passed", 1) for name, bad in wrong.items()
    }


def test_heavy_modules_are_named_and_time_is_taken(site):
    site.install("heavy", {}, {"heavy_options": "import time, tokenizers\ntime.sleep(0.05)\n"})
    found = imports.cost(["heavy_options"])
    assert (found.heavy, found.error) == (("tokenizers",), "")
    assert found.milliseconds >= 50
    assert found.ratio > found.without > 1
