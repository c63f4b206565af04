"""The fixtures of `ibllm_testing.fixtures`, used as an author would."""
# ruff: noqa: F811  # a fixture is imported by the name of an argument

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ibllm_testing import fixtures as plugin
from ibllm_testing.fixtures import (  # noqa: F401  # fixtures are found by their names
    _finished,
    ibllm_command,
    ibllm_plugins,
    ibllm_run_dir,
    ibllm_tiny_data,
    ibllm_tiny_recipe,
)

from ibllm_core.host import manager as plugins
from ibllm_core.host.spec import ComponentSpec
from tests import processes

DOCS = Path(__file__).parents[2] / "docs"
SPEC = ComponentSpec("schedule", "mine", "ibllm_optim.schedule:Constant", "ibllm_optim.config:ConstantConfig", "one of a test's own")


def test_given_specs_are_found_without_an_installation(ibllm_plugins, ibllm_command):
    manager = ibllm_plugins(SPEC)
    assert manager.get("schedule", "mine") == SPEC
    assert "cosine" in manager.names("schedule")
    assert plugins.manager() is manager
    shown = ibllm_command("plugins", "show", "schedule.mine")
    assert (shown.code, shown.stderr) == (0, "")
    assert "one of a test's own" in shown.stdout


def test_what_else_is_installed_is_not_seen(site, source, ibllm_plugins):
    site.install("far", {"far": "far_plugin"}, {"far_plugin": source(kind="schedule", name="far")})
    assert plugins.Manager().names("schedule").count("far") == 1
    assert "far" not in ibllm_plugins(SPEC).names("schedule")
    assert [(row.kind, row.name) for row in ibllm_plugins(SPEC, ours=False).rows()] == [("schedule", "mine")]


def test_the_managers_of_two_tests_are_apart():
    assert "mine" not in plugins.manager().names("schedule")


def test_a_command_gives_code_and_both_outputs(ibllm_command, capsys):
    done = ibllm_command("plugins", "show", "schedule.nowhere")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no schedule is called 'nowhere'")
    assert capsys.readouterr() == ("", "")


def test_tiny_data_are_a_dataset(ibllm_tiny_data):
    found = ibllm_tiny_data.samples("train", np.arange(5))
    assert found.images.shape == (5, 32, 32, 3)
    assert len(found.captions) == len(found.questions) == 5
    assert ibllm_tiny_data.sizes() == {"train": 64, "test": 64}


def test_the_tiny_recipe_can_be_changed(ibllm_command, ibllm_tiny_recipe):
    assert ibllm_command("check", ibllm_tiny_recipe, "--set", "model.text_encoder.use=lstm").code == 0
    assert ibllm_command("check", ibllm_tiny_recipe, "--set", "model.text_encoder.use=lstn").code == 2


@pytest.mark.slow
def test_given_specs_can_be_trained_with(ibllm_plugins, ibllm_command, ibllm_tiny_recipe, tmp_path):
    ibllm_plugins(SPEC)
    ran = ibllm_command("run", ibllm_tiny_recipe, "--run-dir", tmp_path / "run", "--set", "schedule.use=mine")
    assert ran.code == 0, ran.stderr
    assert "given" in (tmp_path / "run" / "run.json").read_text(encoding="utf-8")


def test_every_fixture_is_documented():
    assert "<!-- generated: fixtures -->" in (DOCS / "reference" / "conformance.md").read_text(encoding="utf-8")
    for name in ("device", "ibllm_command", "ibllm_plugins", "ibllm_run_dir", "ibllm_tiny_data", "ibllm_tiny_recipe"):
        assert getattr(plugin, name).__doc__


@pytest.mark.slow
def test_the_run_is_finished_and_a_tests_own(ibllm_run_dir, ibllm_command):
    assert json.loads((ibllm_run_dir / "run.json").read_text())["status"] == "done"
    assert "test/bleu" in json.loads((ibllm_run_dir / "results.json").read_text())
    assert ibllm_command("evaluate", ibllm_run_dir, "--items", "2").code == 0


PROJECT = """
import pytest

def test_device(device):
    assert device.type in ("cpu", "cuda")

@pytest.mark.slow
def test_names(ibllm_plugins, ibllm_command, ibllm_tiny_data, ibllm_tiny_recipe):
    assert ibllm_command("--version").code == 0
"""


@pytest.mark.parametrize("how", ["option", "conftest"])
def test_the_plugin_is_asked_for_in_either_way(how, tmp_path):
    (tmp_path / "test_it.py").write_text(PROJECT)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    if how == "conftest":
        (tmp_path / "conftest.py").write_text('pytest_plugins = ["ibllm_testing.fixtures"]\n')
    words = ["-p", "ibllm_testing.fixtures"] if how == "option" else []
    done = subprocess.run(processes.command("-m", "pytest", "-q", *words), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_nothing_is_loaded_that_nobody_asked_for(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_names(ibllm_command):\n    pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(processes.command("-m", "pytest", "-q"), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "fixture 'ibllm_command' not found" in done.stdout
