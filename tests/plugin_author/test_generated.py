"""A package for every kind, as ``ibllm plugin new`` writes it: installed, tested by its own tests, looked over by ``ibllm plugin check``.

All of them, and two that are broken on purpose, share one virtual environment, which sees this one's packages; nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import attrs
import pytest
from ibllm_testing.fixtures import run_command

from ibllm_core.host.spec import KINDS
from tests import processes

pytestmark = pytest.mark.slow


@attrs.frozen
class Environment:
    """A virtual environment, and the folder with the packages that are installed in it."""

    python: Path
    packages: Path

    def run(self, *words: object, code: int = 0) -> str:
        """``python WORD …``; what it writes to standard output."""
        given = processes.command(*words, python=self.python)
        done = subprocess.run(given, cwd=self.packages, capture_output=True, text=True, encoding="utf-8", check=False)
        assert done.returncode == code, f"{' '.join(given)}\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
        return done.stdout


def name_of(kind: str) -> str:
    return f"my-{kind.replace('_', '-')}"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    pytest.importorskip("hatchling")
    packages, broken = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("broken")
    for kind in KINDS:
        assert run_command("plugin", "new", name_of(kind), "--kind", kind, "--dir", packages / name_of(kind)).code == 0
    done = run_command("plugin", "new", "slow-fall", "--kind", "optimizer", "--into", packages / name_of("schedule"))
    assert done.code == 0, done.stderr
    for name, kind in (("wrong-shape", "text_encoder"), ("not-there", "schedule")):
        assert run_command("plugin", "new", name, "--kind", kind, "--dir", broken / name).code == 0
    part = broken / "wrong-shape/src/wrong_shape/text_encoder.py"
    spoilt = part.read_text().replace("states.gather(1, last).squeeze(1)", "states.gather(1, last)")
    part.write_text(spoilt)
    (broken / "not-there/src/not_there/config.py").write_text("import nothing_like_it\n")

    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    installed = Environment(python, packages)
    base = str(folder)
    site = Path(sysconfig.get_path("purelib", vars={"base": base, "platbase": base}))
    here = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "outer.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in here))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "--quiet"]
    given = [str(path) for parent in (packages, broken) for path in sorted(parent.iterdir())]
    done = subprocess.run([*pip, "--no-index", "--no-deps", "--no-build-isolation", *given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return installed


def test_all_are_there(environment: Environment):
    rows = json.loads(environment.run("-m", "ibllm", "plugins", "--json"))
    for kind in KINDS:
        row = next(row for row in rows if (row["distribution"], row["kind"]) == (name_of(kind), kind))
        assert (row["kind"], row["name"], row["status"]) == (kind, f"my_{kind}", "ok")


def test_the_tests_of_every_kind_pass_as_generated(environment: Environment):
    """In one process; each package's own settings for pytest are the options here."""
    report = environment.packages / "result.xml"
    environment.run(
        "-m", "pytest", "-q", "-p", "ibllm_testing.fixtures", "--import-mode=importlib", "--strict-markers", "-c", os.devnull,
        "-p", "no:cacheprovider", "--rootdir", environment.packages, f"--junitxml={report}", environment.packages,
    )  # fmt: skip
    text = report.read_text(encoding="utf-8")
    assert all(f'classname="{name_of(kind)}.tests.test_contract.' in text for kind in KINDS)
    assert all(f'classname="{name_of(kind)}.tests.test_use"' in text for kind in KINDS)


def test_a_package_with_two_kinds_passes_its_own_tests_and_the_check(environment: Environment):
    text = (environment.packages / "result.xml").read_text(encoding="utf-8")
    assert f'classname="{name_of("schedule")}.tests.test_optimizer.' in text
    found = json.loads(environment.run("-m", "ibllm", "plugin", "check", name_of("schedule"), "--json"))
    assert found["passed"]
    assert {c["kind"]: c["name"] for c in found["components"]} == {"schedule": "my_schedule", "optimizer": "slow_fall"}
    assert all(c["contract"]["checks"] > 5 and c["undocumented"] == [] for c in found["components"])


def test_they_pass_by_the_command_that_the_package_names(environment: Environment):
    folder = environment.packages / name_of("schedule")
    done = subprocess.run([environment.python, "-m", "pytest"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "warning" not in done.stdout


def test_their_code_is_clean_and_formatted(environment: Environment):
    environment.run("-m", "ruff", "check", *map(name_of, KINDS))
    environment.run("-m", "ruff", "format", "--check", *map(name_of, KINDS))


def test_a_recipe_trains(environment: Environment):
    steps = [word for stage in ("text", "image") for word in ("--set", f"stages.{stage}.steps=2")]
    environment.run("-m", "ibllm", "run", "my-text-encoder:small", "--run-dir", "run", *steps)
    run = json.loads((environment.packages / "run" / "run.json").read_text(encoding="utf-8"))
    assert run["status"] == "done"
    assert "my-text-encoder" in json.dumps(run)


def test_check_finds_nothing_wrong_with_one_but_the_address(environment: Environment):
    found = json.loads(environment.run("-m", "ibllm", "plugin", "check", "my-text-encoder", "--json"))
    (component,) = found["components"]
    assert found["passed"]
    assert component["contract"]["status"] == "passed"
    assert component["contract"]["checks"] > 15
    assert component["speed"]["reference"] == "text_encoder.lstm"
    assert component["speed"]["ratio"] > 0
    assert found["import"]["heavy"] == []
    assert component["undocumented"] == []
    assert found["undocumented"] == ["no address (project.urls: Homepage or Documentation)"]


def test_check_names_what_is_wrong_with_a_broken_one(environment: Environment):
    told = environment.run("-m", "ibllm", "plugin", "check", "wrong-shape", code=1)
    assert "text_encoder.wrong_shape: " in told
    assert "shapes are as declared: pooled has shape (3, 1, 16): the interface says (b d) with b=3 d=16" in told


def test_check_of_one_that_cannot_be_imported(environment: Environment):
    told = environment.run("-m", "ibllm", "plugin", "check", "not-there", code=1)
    assert "schedule.not_there: not tested: not-there==0.1.0: the config of schedule.not_there" in told
    assert "No module named 'nothing_like_it'" in told
