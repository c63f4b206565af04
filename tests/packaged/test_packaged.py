"""What packages bring beside code: recipes run by their address, pages that are listed and printed; nothing of a package is imported for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ibllm_cli.main import main

from ibllm_core.host import packaged
from ibllm_core.host.entry_points import FOLDERS
from ibllm_core.recipe import load
from tests.processes import ibllm

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
#: Imported, it would end the process: whoever looks for a file must not run a line of it.
DEADLY = "import os\nos._exit(77)\n"


def bring(site, distribution: str, folder: str, files: dict[str, str], entries: dict[str, str] | None = None, version: str = "1.0") -> None:
    """A package with files in a folder, installed."""
    package = distribution.replace("-", "_")
    site.install(distribution, entries or {folder: f"{package}.{folder}"}, {f"{package}.__init__": DEADLY}, version=version, group=FOLDERS)
    for name, text in files.items():
        path = site.folder / package / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def recipes(site):
    """ink-pot brings the recipes small, half and deep/far; half and far extend."""
    bring(
        site,
        "ink-pot",
        "recipes",
        {
            "small.toml": "# A small one.\n" + TINY.read_text(encoding="utf-8").replace('name = "tiny"\n', ""),
            "half.toml": '# Half of it.\nformat = 1\nextends = "small.toml"\n[stages.text]\nsteps = 4\n',
            "deep/far.toml": 'format = 1\nextends = "../half.toml"\nseed = 5\n',
        },
        version="2.3",
    )
    return site


def test_a_recipe_is_found_by_package_and_name(recipes):
    small, half, far = (load(f"ink-pot:{name}") for name in ("small", "half", "deep/far"))
    assert (small.name, small.stages["text"].steps) == ("small", 8)
    assert (half.name, half.stages["text"].steps) == ("half", 4)
    assert (far.name, far.stages["text"].steps, far.seed.init) == ("far", 4, 5)
    assert "ink_pot" not in sys.modules


@pytest.mark.parametrize("name", ["Ink_Pot", "ink.pot"])
def test_names_of_packages_are_compared_as_the_index_does(recipes, name):
    assert load(f"{name}:small").name == "small"


def test_a_recipe_of_ones_own_may_extend_a_packaged_one(recipes, tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text('format = 1\nextends = "ink-pot:half"\nseed = 3\n', encoding="utf-8")
    found = load(mine)
    assert (found.name, found.seed.data, found.stages["text"].steps) == ("mine", 3, 4)


def test_commands_take_an_address_where_they_take_a_recipe(recipes, capsys):
    assert main(["check", "ink-pot:half"]) == 0
    assert "half: no mistakes" in capsys.readouterr().out
    assert main(["diff", "ink-pot:small", "ink-pot:half"]) == 0
    assert "stages.text.steps: 8 → 4" in capsys.readouterr().out


@pytest.mark.slow
def test_a_packaged_recipe_runs_and_its_run_stands_alone(recipes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    steps = ["--set", "stages.image.steps=0", "--set", "stages.joint.steps=0", "--set", "stages.text.steps=2"]
    assert main(["run", "ink-pot:half", *steps]) == 0
    assert (tmp_path / "runs" / "half" / "report.html").is_file()
    assert "ibllm run runs/half/recipe.toml --run-dir" in capsys.readouterr().out
    assert load(tmp_path / "runs" / "half" / "recipe.toml").name == "half"
    assert main(["run", "ink-pot:half", "--resume", *steps]) == 0


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (
            "ink-pod:small",
            ["no package 'ink-pod' is installed", "a package that brings recipes: ibllm, ink-pot", "did you mean: ink-pot:small\n"],
        ),
        ("pluggy:small", ["brings no recipes"]),
        ("ink-pot:smal", ["ink-pot 2.3 has no recipe 'smal'", "one of deep/far, half, small", "did you mean: ink-pot:small"]),
        ("ink-pot:../ink_pot/recipes/small", ["has no recipe"]),
        ("ink-pot:small.toml", ["did you mean: ink-pot:small"]),
    ],
)
def test_what_is_not_there_is_said_with_the_nearest_and_2(recipes, capsys, address, said):
    assert main(["check", address]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {address} cannot be run as it stands")
    assert [text for text in said if text not in message] == [], message


def test_a_mistake_in_extends_has_its_line(recipes, tmp_path, capsys):
    mine = tmp_path / "mine.toml"
    mine.write_text('format = 1\nextends = "ink-pot:hlaf"\n', encoding="utf-8")
    assert main(["check", str(mine)]) == 2
    message = capsys.readouterr().err
    assert f"{mine}:2: extends: ink-pot 2.3 has no recipe 'hlaf'" in message
    assert "did you mean: ink-pot:half" in message


def test_a_mistake_inside_a_packaged_recipe_has_file_and_line(recipes, capsys):
    half = recipes.folder / "ink_pot" / "recipes" / "half.toml"
    half.write_text(half.read_text(encoding="utf-8").replace("steps = 4", "stepz = 4"), encoding="utf-8")
    assert main(["check", "ink-pot:half"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ink-pot:half cannot be run as it stands")
    assert f"{half}:5: stages.text.stepz" in message


def test_packaged_recipes_that_extend_in_a_circle(site, capsys):
    bring(site, "ring", "recipes", {n: f'format = 1\nextends = "ring:{other}"\n' for n, other in (("a.toml", "b"), ("b.toml", "a"))})
    assert main(["check", "ring:a"]) == 2
    assert "extends itself" in capsys.readouterr().err


def test_a_file_of_that_very_name_is_a_file(recipes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ink-pot:half").write_text(f'format = 1\nextends = "{TINY.as_posix()}"\nseed = 9\n', encoding="utf-8")
    assert load("ink-pot:half").seed.init == 9


@pytest.mark.parametrize("path", ["C:\\job.toml", "c:job", "./a:b", "recipes/joint.toml", "joint", "a b:c", "pack:", "pack:/etc/x", ":x"])
def test_a_path_is_no_address(path):
    assert packaged.split(path) is None


def test_a_folder_that_is_not_there_is_blamed_on_its_package(site, capsys):
    bring(site, "hollow", "docs", {}, entries={"recipes": "hollow.no.such"})
    assert main(["check", "hollow:x"]) == 2
    assert "hollow 1.0 says that its recipes are in hollow.no.such, but there is no .toml file" in capsys.readouterr().err
    assert main(["recipes"]) == 0


def test_a_misspelt_folder_is_said(site, capsys):
    bring(site, "typo", "recipes", {"a.toml": ""}, entries={"recipe": "typo.recipes"})
    assert main(["check", "typo:a"]) == 2
    wrong = "typo 1.0 registers 'recipe' in ibllm.folders, expected one of recipes, docs"
    assert wrong in capsys.readouterr().err
    assert main(["recipes"]) == 0
    assert wrong in capsys.readouterr().err


def test_packaged_recipes_are_listed(recipes, capsys):
    for command in (["recipes"], ["recipes", "ink-pot"]):
        assert main(command) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines() if "ink-pot:" in line]
        assert ["ink-pot:small", "A", "small", "one.", "ink-pot", "2.3"] in lines
        assert len(lines) == 3
    assert main(["recipes", "ink-pot", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["address"] for row in rows] == ["ink-pot:deep/far", "ink-pot:half", "ink-pot:small"]
    assert set(rows[0]) == {"address", "distribution", "version", "name", "kind", "summary", "path"}
    assert Path(rows[0]["path"]).is_file()
    assert main(["recipes", "ink-pod"]) == 2
    assert "did you mean 'ink-pot'?" in capsys.readouterr().err


def test_pages_are_listed_and_printed(site, capsys):
    bring(site, "paper", "docs", {"index.md": "# Paper\n\nHow to fold it.\n", "more/birds.md": "# Birds\n\nCranes: 紙\n"})
    assert main(["plugins", "docs"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "paper:" in line]
    assert lines == [["paper:index", "Paper", "paper", "1.0"], ["paper:more/birds", "Birds", "paper", "1.0"]]
    assert main(["plugins", "docs", "paper:more/birds"]) == 0
    assert capsys.readouterr().out == "# Birds\n\nCranes: 紙\n"
    assert main(["plugins", "docs", "paper:bird"]) == 2
    assert "paper 1.0 has no page 'bird'" in capsys.readouterr().err


def test_a_package_may_say_where_its_documentation_is(site, source, capsys):
    site.install("webbed", {"webbed": "webbed_plugin"}, {"webbed_plugin": source(kind="metric", name="webbed", config="webbed_plugin:C")})
    info = site.folder / "webbed-1.0.dist-info"
    with (info / "METADATA").open("a") as file:
        file.write("Project-URL: Documentation, https://example.org/webbed\n")
    with (info / "entry_points.txt").open("a") as file:
        file.write(f"[{FOLDERS}]\ndocs = webbed.docs\n")
    (site.folder / "webbed" / "docs").mkdir(parents=True)
    (site.folder / "webbed" / "__init__.py").write_text(DEADLY)
    (site.folder / "webbed" / "docs" / "index.md").write_text("# Webs\n")
    with (site.folder / "webbed_plugin.py").open("a") as file:
        file.write("import attrs\nfrom ibllm_core.host.options import Config\n@attrs.frozen\nclass C(Config):\n    'None.'\n")
    done = subprocess.run(
        ibllm("plugins", "show", "metric.webbed"),
        capture_output=True,
        text=True,
        env=site.environment(),
        check=True,
    )
    assert "docs      ibllm plugins docs webbed, https://example.org/webbed" in done.stdout
    assert main(["plugins", "docs", "webbed"]) == 0
    assert capsys.readouterr().out.endswith("on the web: https://example.org/webbed\n")


def test_without_any_there_is_a_word(site, capsys, monkeypatch):
    monkeypatch.setattr(packaged, "_points", list)
    assert main(["plugins", "docs"]) == 0
    assert capsys.readouterr().out == "no installed package brings docs\n"


def test_looking_for_a_recipe_imports_no_torch(recipes):
    script = "import sys; from ibllm_core.recipe import load; load('ink-pot:half'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], env=recipes.environment(), check=False).returncode == 0


def test_help_survives_a_command_whose_import_ends_the_process(site):
    """``--help``, and every other command, load no code of a package that brings a command."""
    site.install("doom", {"doom": "doom_command:command"}, {"doom_command": DEADLY}, group="ibllm.commands")
    shell = {"capture_output": True, "text": True, "env": os.environ | site.environment(), "check": False}
    helped = subprocess.run([sys.executable, "-m", "ibllm", "--help"], **shell)
    assert (helped.returncode, "from doom==1.0" in helped.stdout) == (0, True)
    assert subprocess.run([sys.executable, "-m", "ibllm", "plugins", "--help"], **shell).returncode == 0
    assert subprocess.run([sys.executable, "-m", "ibllm", "doom"], **shell).returncode == 77


def test_studies_over_packaged_recipes_and_packaged_studies(recipes, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    variant = 'format = 1\nseeds = 2\nprimary = "test/scene_exact"\n[variants]\nsmaller = { "model.width" = 8 }\n'
    Path("own.toml").write_text(f'base = "ink-pot:half"\n{variant}', encoding="utf-8")
    (recipes.folder / "ink_pot" / "recipes" / "deep" / "study.toml").write_text(f'base = "../half.toml"\n{variant}', encoding="utf-8")
    plans = []
    for study in ("own.toml", "ink-pot:deep/study"):
        assert main(["ablate", study, "--plan"]) == 0
        plans.append(capsys.readouterr().out)
    assert all("smaller" in plan and "model.width: 16 → 8" in plan for plan in plans), plans
    assert main(["ablate", "ink-pot:deep/studi", "--plan"]) == 2
    assert "did you mean: ink-pot:deep/study" in capsys.readouterr().err
