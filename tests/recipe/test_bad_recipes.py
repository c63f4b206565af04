"""Every bad recipe in ``bad/`` gives exactly the message beside it, through the command line.

A recipe's first line may hold more arguments of ``ibllm check``: ``# --set KEY=VALUE``. In the messages, ``{dir}`` stands for
the folder and ``{version}`` for this version. After a wanted change of words, ``IBLLM_ACCEPT=1 pytest tests/recipe`` writes the
messages anew: read the difference.
"""

from __future__ import annotations

import os
import shlex
from importlib.metadata import version
from pathlib import Path

import pytest
from ibllm_cli.main import main

from ibllm_core.host.manager import Manager

FOLDER = Path(__file__).parent / "bad"
RECIPES = sorted(path.name for path in FOLDER.glob("[0-9]*.toml"))


def arguments(recipe: Path) -> list[str]:
    first = recipe.read_bytes().split(b"\n", 1)[0].decode()
    return shlex.split(first[1:]) if first.startswith("# --") else []


@pytest.mark.parametrize("name", RECIPES)
def test_a_bad_recipe_is_told_all_its_mistakes(name: str, stranger: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = FOLDER / name
    code = main(["check", str(recipe), *arguments(recipe)])
    shown = capsys.readouterr()
    message = shown.err.replace(str(FOLDER), "{dir}").replace(f"ibllm {version('ibllm')}", "ibllm {version}")
    expected = recipe.with_suffix(".txt")
    if os.environ.get("IBLLM_ACCEPT"):
        expected.write_text(message, encoding="utf-8")
    assert (code, shown.out) == (2, "")
    assert message == expected.read_text(encoding="utf-8")


def test_the_recipe_that_they_extend_is_good(stranger: Manager) -> None:
    from ibllm_core.recipe import load

    assert load(FOLDER / "base.toml", manager=stranger).order == ("text", "image", "joint")


def test_a_missing_file(stranger: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    missing = FOLDER / "bases.toml"
    assert main(["check", str(missing)]) == 2
    assert capsys.readouterr().err == (
        f"error: {missing} cannot be run as it stands\n\n{missing}: no such file\n    did you mean: {FOLDER / 'base.toml'}\n\n1 mistake; nothing was started\n"
    )


def test_a_run_directory_is_no_recipe(stranger: Manager, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.toml").write_text("format = 1\n")
    assert main(["check", str(tmp_path)]) == 2
    assert (
        f"{tmp_path}: is a folder\n    expected: a recipe, a TOML file\n    did you mean: {tmp_path / 'recipe.toml'}\n"
        in capsys.readouterr().err
    )


def test_messages_are_kept_for_no_recipe_that_is_gone() -> None:
    assert [path.with_suffix(".toml").name for path in sorted(FOLDER.glob("*.txt"))] == RECIPES
