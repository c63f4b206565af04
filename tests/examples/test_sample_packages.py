"""The packages under docs/examples: built into wheels, installed from them into one new environment, tested there, and used in one recipe.

The environment sees this one's packages; nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import attrs
import pytest

from tests import processes

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PACKAGES = sorted(path.parent.name for path in EXAMPLES.glob("*/pyproject.toml"))
TOGETHER = EXAMPLES / "clocks-in-ellipses.toml"
#: What makes a recipe take seconds: a small text stage, nothing after it, little measured.
SHORT = (
    "stages.text.steps=60", "stages.text.lr=1.0", "stages.text.validate.every=60", "stages.image.steps=0", "model.width=32",
    "model.text_encoder.depth=1", "model.image_decoder.ellipses=6", "training.batch=16", "training.log_every=5", "evaluation.items=14",
    "evaluation.samples=1", "compute.device=cpu",
)  # fmt: skip


@attrs.frozen
class Environment:
    """A virtual environment with the packages, the folder that it works in, and the wheels that were installed."""

    python: Path
    folder: Path
    wheels: tuple[Path, ...]

    def run(self, *words: object, cwd: Path | None = None, code: int = 0) -> str:
        """``python WORD …``; what it writes to standard output."""
        given = processes.command(*words, python=self.python)
        done = subprocess.run(given, cwd=cwd or self.folder, capture_output=True, text=True, encoding="utf-8", check=False)
        assert done.returncode == code, f"{' '.join(given)}\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
        return done.stdout

    def ibllm(self, *words: object) -> str:
        return self.run("-m", "ibllm", *words)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("samples")
    for name in PACKAGES:  # building leaves nothing in the repository
        shutil.copytree(EXAMPLES / name, folder / "sources" / name, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    pip, offline = [sys.executable, "-m", "pip", "--disable-pip-version-check"], ["--quiet", "--no-index", "--no-deps"]
    sources = [str(folder / "sources" / name) for name in PACKAGES]
    wheels = folder / "wheels"
    _call(*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(wheels), *sources)

    venv.create(folder / "environment", with_pip=False)
    python = folder / "environment" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    made = Environment(python, folder, tuple(sorted(wheels.glob("*.whl"))))
    base = str(folder / "environment")
    site = Path(sysconfig.get_path("purelib", vars={"base": base, "platbase": base}))
    here = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "outer.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in here))
    _call(*pip, "--python", str(python), "install", *offline, *map(str, made.wheels))
    return made


def _call(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheels_hold_all_that_is_needed(environment: Environment):
    assert [wheel.name.split("-")[0] for wheel in environment.wheels] == [name.replace("-", "_") for name in PACKAGES]
    for wheel in environment.wheels:
        package, inside = wheel.name.split("-")[0], zipfile.ZipFile(wheel).namelist()
        assert {f"{package}/{name}" for name in ("plugin.py", "config.py", "docs/index.md")} <= set(inside)
        assert any(name.startswith(f"{package}/recipes/") for name in inside)
        assert any(name.endswith("/licenses/LICENSE") for name in inside)
        assert not [name for name in inside if "test" in name]


def test_they_are_not_on_our_path():
    script = "import importlib.util as u, sys; sys.exit(any(map(u.find_spec, sys.argv[1:])))"
    _call(sys.executable, "-c", script, *(name.replace("-", "_") for name in PACKAGES))


@pytest.mark.parametrize("name", PACKAGES)
def test_its_own_tests_pass(environment: Environment, name: str, tmp_path: Path):
    """By the command that its README names, on what was installed: beside the tests lies no source."""
    for kept in ("tests", "pyproject.toml"):
        source = environment.folder / "sources" / name / kept
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / kept)
    output = environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
    assert " passed" in output
    assert "skipped" not in output


def test_what_they_bring_is_listed(environment: Environment):
    rows = json.loads(environment.ibllm("plugins", "--json"))
    assert {(row["kind"], row["name"], row["status"]) for row in rows if row["distribution"] in PACKAGES} == {
        ("image_decoder", "ellipses", "ok"),
        ("loss", "edges", "ok"),
        ("dataset", "clocks", "ok"),
        ("metric", "clock_time", "ok"),
    }
    for command in (("recipes",), ("plugins", "docs")):
        found = [row for row in json.loads(environment.ibllm(*command, "--json")) if row["distribution"] != "ibllm"]
        assert {row["distribution"] for row in found} == set(PACKAGES)
        assert all(row["summary"] for row in found)
    assert environment.ibllm("plugins", "docs", "ibllm-ellipses:index").startswith("# Painting with ellipses\n")
    assert "ellipses  A drawing as a vector graphic. from ibllm-ellipses==" in environment.ibllm("--help")


def test_every_recipe_of_theirs_fits_together(environment: Environment):
    for row in json.loads(environment.ibllm("recipes", "--json")):
        if row["distribution"] not in PACKAGES:
            continue
        assert "no mistakes; the parts fit" in environment.ibllm("check", row["address"])


def test_a_recipe_that_combines_them_learns(environment: Environment):
    """Over sixty steps of seed 0 the likelihood and the edges get better by a margin."""
    sets = [word for key in SHORT for word in ("--set", key)]
    environment.ibllm("run", TOGETHER, "--run-dir", "run", "--seed", 0, *sets)
    run = environment.folder / "run"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    logged = [line for line in lines if line.get("kind") == "train"]
    for loss, factor in (("image_nll", 0.2), ("edges", 0.97)):
        first, last = logged[0][f"loss/{loss}"], logged[-1][f"loss/{loss}"]
        assert last < factor * first, (loss, first, last)
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert 0 <= results["train/clock_exact"] <= 1
    assert 0 <= results["train/clock_minutes_off"] <= 360
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))["provenance"]
    versions = {(row["component"], row["distribution"], row["version"]) for row in record.values()}
    assert versions > {("image_decoder.ellipses", "ibllm-ellipses", "0.1.0"), ("dataset.clocks", "ibllm-clocks", "0.1.0")}

    picture = environment.folder / "clock.svg"
    assert "6 ellipses" in environment.ibllm("ellipses", run, "twenty past seven", "--out", picture)
    assert picture.read_text(encoding="utf-8").count("<ellipse ") == 6
