"""A run is opened with what it was made with, or says what it was made with."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import pytest
from ibllm_study.findings import from_runs
from ibllm_testing.fixtures import run_command

from ibllm.opening import load_run
from ibllm_core.errors import Notice, UserError
from ibllm_core.host import manager as plugins
from ibllm_core.host.entry_points import BLOCK
from ibllm_core.runs.directory import RunDirectory

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
CONFIG = """
import attrs
from ibllm.figures import Figure
from ibllm_core.host.options import MetricConfig, option

@attrs.frozen(kw_only=True)
class Options(MetricConfig):
    def figures(self):
        return (Figure("met"),)
    def needs(self):
        return frozenset()
"""


@pytest.fixture
def install(site, source, monkeypatch):
    """``install(distribution, version)``: a package whose plugin, called like it, offers metric.met."""
    monkeypatch.setattr(plugins, "_manager", lambda block: plugins.Manager(block))

    def install(distribution: str, version: str, more: str = "", head: str = "") -> None:
        name = distribution.replace("-", "_")
        modules = {
            f"{name}_plugin": head + source("metric", "met", f"{name}_part:Met", f"{name}_part:Options"),
            f"{name}_part": CONFIG + more,
        }
        site.install(distribution, {name: f"{name}_plugin"}, modules, version=version)

    return install


@pytest.fixture
def run(tmp_path) -> Path:
    """A run that was made with ver-met 2.0."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.toml").write_text(TINY.read_text().replace("[metrics]\n", '[metrics]\nmet = { use = "met" }\n'))
    entry = {"component": "metric.met", "distribution": "ver-met", "version": "2.0"}
    (folder / "run.json").write_text(json.dumps({"provenance": {"metrics.met": entry}}))
    return folder


WANTED = re.escape(
    "was made with what is not installed here: metrics.met = metric.met of ver-met==2.0. To have it: pip install 'ver-met==2.0'"
)


@pytest.mark.parametrize("others", ["none", "broken", "blocked"])
def test_a_missing_package_is_named_whatever_else_is_wrong(others, site, source, monkeypatch, run):
    monkeypatch.setattr(plugins, "_manager", lambda block: plugins.Manager(block))
    if others == "broken":
        site.install("other", {"other": "other_plugin"}, {"other_plugin": "1 / 0"})
    if others == "blocked":
        monkeypatch.setenv(BLOCK, "tensorboard")
    with pytest.raises(UserError, match=WANTED):
        load_run(RunDirectory(run))


def test_a_package_that_is_here_and_broken_says_why(install, run):
    install("ver-met", "2.0", head="1 / 0\n")
    with pytest.raises(UserError, match="ZeroDivisionError") as caught:
        load_run(RunDirectory(run))
    assert "pip install 'ver-met" not in str(caught.value)


def test_the_same_package_is_no_news_and_another_version_is(install, run):
    install("ver-met", "2.0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_run(RunDirectory(run)).name == "tiny"
    (run / "run.json").write_text((run / "run.json").read_text().replace("2.0", "1.5"))
    with pytest.warns(Notice, match=r"was made with ver-met==1\.5 \(here: 2\.0\); figures may differ"):
        load_run(RunDirectory(run))


def test_an_option_that_the_installed_version_has_not_got(install, run):
    install("ver-met", "1.0")
    recipe = run / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('use = "met"', 'use = "met", depth = 2'))
    with pytest.raises(UserError, match=r"metrics\.met\.depth: unknown key") as caught:
        load_run(RunDirectory(run))
    assert str(caught.value).endswith(
        f"{run} was made with ver-met==2.0 (here: 1.0). To have what it was made with: pip install 'ver-met==2.0'"
    )


def test_another_package_that_offers_the_component_is_no_replacement(install, run):
    install("new-met", "3.1")
    with pytest.raises(
        UserError, match=r"metric\.met of ver-met==2\.0 \(here new-met==3\.1 offers one of that name: .*pip install 'ver-met==2\.0'"
    ):
        load_run(RunDirectory(run))


def test_another_package_beside_the_blocked_one_is_a_warning(install, run, monkeypatch):
    install("ver-met", "2.0")
    install("new-met", "3.1")
    monkeypatch.setenv(BLOCK, "ver_met")
    with pytest.warns(Notice, match=r"was made with metric\.met of ver-met==2\.0 \(here: of new-met==3\.1\); figures may differ"):
        load_run(RunDirectory(run))


@pytest.mark.parametrize("command", ["diff", "compare"])
def test_commands_that_only_read_a_run_say_what_to_install_too(command, run, monkeypatch):
    monkeypatch.setattr(plugins, "_manager", lambda block: plugins.Manager(block))
    done = run_command(command, run, run)
    assert (done.code, done.stdout) == (2, "")
    assert "To have it: pip install 'ver-met==2.0'" in done.stderr


def test_diff_of_runs_takes_overrides(install, run):
    install("ver-met", "2.0")
    done = run_command("diff", run, run, "--set", "training.batch=4")
    assert (done.code, done.stderr) == (0, "")
    assert "training.batch" in done.stdout


def test_findings_warn_of_another_version(install, run):
    install("ver-met", "1.0")
    with pytest.warns(Notice, match="figures may differ"), pytest.raises(UserError, match="the same recipe with the same seed"):
        from_runs([run, run])
