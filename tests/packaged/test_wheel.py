"""The wheel alone is enough: in an empty folder, recipes and studies are run by their address."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

import attrs
import pytest

from ibllm_core.host import packaged

ROOT = Path(__file__).parents[2]


@attrs.frozen
class Installed:
    """An environment that holds the built wheel, an empty folder to work in, and the names of the wheel's files."""

    python: Path
    folder: Path
    files: frozenset[str]

    def ibllm(self, *words: str) -> str:
        done = subprocess.run(
            [str(self.python), "-m", "ibllm", *words], cwd=self.folder, capture_output=True, text=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["--quiet", "--no-index", "--no-deps"]
    _call(*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(_call(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # Plain folders: what this environment's own .pth files lead to, such as these sources, is not seen.
    (site / "dependencies.pth").write_text(
        "".join(f"{path}\n" for path in sys.path if Path(path).name in ("site-packages", "dist-packages"))
    )
    _call(*pip, "--python", str(python), "install", *offline, *map(str, folder.glob("*.whl")))
    (folder / "empty").mkdir()
    (wheel,) = folder.glob("*.whl")
    return Installed(python, folder / "empty", frozenset(ZipFile(wheel).namelist()))


def _call(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_brings_every_recipe_and_study(installed: Installed):
    rows = json.loads(installed.ibllm("recipes", "--json"))
    ours = {row["address"]: Path(row["path"]) for row in rows if row["distribution"] == "ibllm"}
    there = {f"ibllm:{path.relative_to(ROOT / 'recipes').with_suffix('').as_posix()}" for path in (ROOT / "recipes").rglob("*.toml")}
    assert set(ours) == there
    assert all(path.is_relative_to(installed.python.parents[1]) for path in ours.values())


def test_it_holds_every_module(installed: Installed):
    core = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ibllm_core").rglob("*.py")}
    assert core | {path.relative_to(ROOT / "plugins").as_posix() for path in (ROOT / "plugins").rglob("*.py")} <= installed.files


@pytest.mark.parametrize(
    "words",
    [
        ("check", "ibllm:families/flow"),
        pytest.param(("ablate", "ibllm:ablations/attention", "--plan"), marks=pytest.mark.slow),
    ],
)
def test_they_are_run_by_address_from_an_empty_folder(installed: Installed, words: tuple[str, ...]):
    """The study's base and the family's extended recipe are named relative to their files."""
    assert installed.ibllm(*words)


def test_an_editable_install_reads_the_recipes_as_they_stand():
    """What the entry point leads to is the folder that is edited."""
    assert packaged.find("recipes", "ibllm:joint").path.samefile(ROOT / "recipes" / "joint.toml")


def test_the_source_distribution_holds_what_the_wheel_is_built_from():
    builder = pytest.importorskip("hatchling.builders.sdist").SdistBuilder(str(ROOT))
    inside = {file.distribution_path for file in builder.recurse_included_files()}
    wanted = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "plugins/ibllm_cli/main.py",
        "tests/conftest.py",
        "docs/conf.py",
        "recipes/joint.toml",
    }
    assert wanted | {"plugins/ibllm_recipes/joint.toml", "plugins/ibllm_recipes/ablations/lambda.toml"} <= inside


def test_the_versions_of_python_that_work_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {line.rpartition(" ")[2] for line in project["classifiers"] if line.startswith("Programming Language :: Python :: 3.")}
    assert declared == {"3.11", "3.12", "3.13"}
    assert project["requires-python"] == ">=3.11"
