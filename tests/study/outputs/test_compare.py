"""``ibllm compare``: loose runs are grouped by what they are, paired by seed, and compared like a study's."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ibllm_cli.main import main

from ibllm_core.errors import UserError


def compare(*arguments: object) -> Result:
    from ibllm_cli.main import cli

    return CliRunner().invoke(cli, ["compare", *map(str, arguments)], standalone_mode=False, env={"COLUMNS": "160"})


@pytest.fixture(scope="module")
def loose(make, tmp_path_factory) -> dict[tuple[str, int], Path]:
    """(arm, seed) → a run directory of no study."""
    plan, directory = make(tmp_path_factory.mktemp("loose"), seeds=2)
    found = {}
    for cell in plan.cells:
        path = tmp_path_factory.mktemp("runs") / f"run-{cell.id}"
        shutil.copytree(directory.run(cell).path, path)
        recipe = (path / "recipe.toml").read_text(encoding="utf-8")
        lines = ['name = "tiny"' if line.startswith("name =") else line for line in recipe.splitlines()]
        (path / "recipe.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        found[cell.arm.name, cell.seed] = path
    return found


def test_runs_are_grouped_by_recipe_and_paired_by_seed(loose, tmp_path):
    places = [("λ = 0", 1), ("λ = 0", 0), ("base", 0), ("base", 1), ("no cycle", 1)]
    result = compare(*(loose[place] for place in places), "--out", tmp_path / "out", "--primary", "novel/scene_exact")
    assert result.return_value == 0
    with (tmp_path / "out" / "table.csv").open(encoding="utf-8", newline="") as file:
        table = [row for row in csv.DictReader(file) if row["figure"] == "novel/scene_exact"]
    assert [(row["n"], row["seeds_in_common"]) for row in table] == [("2", ""), ("2", "2"), ("1", "1")]
    # The first run's group is the base; the others are named by what they have otherwise.
    assert [row["arm"] for row in table][1] == "losses.joint.lambda: 0.0 → 0.5"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"study.html", "table.md", "table.tex", "table.csv", "runs.csv"}
    assert str(tmp_path / "out" / "study.html") in result.output
    assert "one seed in common" in result.output


def test_without_a_place_nothing_is_written(loose, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = compare(loose["base", 0], loose["no cycle", 0])
    assert result.return_value == 0
    assert "scenes right (novel/scene_exact, not named beforehand)" in result.output
    assert "exploratory" in result.output
    assert list(tmp_path.iterdir()) == []


def test_recipes_names_tell_arms_apart(loose, tmp_path):
    renamed = tmp_path / "other"
    shutil.copytree(loose["no cycle", 0], renamed)
    recipe = (renamed / "recipe.toml").read_text(encoding="utf-8")
    (renamed / "recipe.toml").write_text(recipe.replace('name = "tiny"', 'name = "without cycle"'), encoding="utf-8")
    result = compare(loose["base", 0], renamed)
    assert "\n without cycle " in result.output


def test_a_run_that_is_not_done_is_shown(loose, tmp_path):
    running = tmp_path / "running"
    shutil.copytree(loose["no cycle", 1], running)
    info = json.loads((running / "run.json").read_text(encoding="utf-8"))
    (running / "run.json").write_text(json.dumps({**info, "status": "interrupted"}), encoding="utf-8")
    result = compare(loose["base", 0], loose["base", 1], loose["no cycle", 0], running)
    assert "1 of 2" in result.output
    assert "1 of 4 runs have no figures: 1 interrupted" in result.output


def test_runs_measured_otherwise_are_named(loose, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(loose["no cycle", 0], other)
    info = json.loads((other / "run.json").read_text(encoding="utf-8"))
    info["metrics"]["novel"]["scene"]["n"] = 64
    (other / "run.json").write_text(json.dumps(info), encoding="utf-8")
    result = compare(loose["base", 0], other)
    assert "not to be compared: novel scene n: 512 → 64" in result.output


def test_less_may_be_better(loose, tmp_path):
    result = compare(loose["base", 0], loose["no cycle", 0], "--mode", "min", "--out", tmp_path)
    assert "less is better" in " ".join(result.output.split())
    assert "← better" in (tmp_path / "study.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("places", "options", "expected"),
    [
        ([("base", 0)], [], "expected two runs or more"),
        ([("base", 0), ("base", 1)], [], "nothing to compare: all 2 runs have the same recipe but for the seed"),
        ([("base", 0), ("base", 0), ("no cycle", 0)], [], "are the same recipe with the same seed"),
        ([("base", 0), ("no cycle", 0)], ["--primary", "novel/scene_exat"], "did you mean 'novel/scene_exact'?"),
    ],
)
def test_mistakes_are_told(loose, places, options, expected):
    result = compare(*(loose[place] for place in places), *options)
    assert isinstance(result.exception, UserError)
    assert expected in str(result.exception)


def test_a_folder_that_is_no_run(loose, tmp_path, capsys):
    assert main(["compare", str(loose["base", 0]), str(tmp_path)]) == 2
    assert "is no run directory" in capsys.readouterr().err


def test_a_damaged_run_is_shown_not_fatal(loose, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(loose["no cycle", 0], damaged)
    (damaged / "results.json").write_text("{", encoding="utf-8")
    result = compare(loose["base", 0], loose["no cycle", 1], loose["base", 1], damaged)
    assert result.return_value == 0
    assert "seed 0: damaged: results.json cannot be read" in result.output


def test_a_place_that_cannot_be_written(loose, tmp_path):
    (tmp_path / "file").write_text("")
    result = compare(loose["base", 0], loose["no cycle", 0], "--out", tmp_path / "file" / "out")
    assert isinstance(result.exception, UserError)
    assert "cannot write" in str(result.exception)
