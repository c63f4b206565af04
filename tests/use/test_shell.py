"""What all commands that use a model share: help, completion, and what a terminal is shown."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete
from ibllm_cli.main import cli
from ibllm_use.common import _laid_out
from rich.cells import cell_len

COMMANDS = ("ask", "caption", "generate", "roundtrip", "score", "search", "walk")


def found(command: str) -> click.Command:
    command_ = cli.get_command(click.Context(cli), command)
    assert command_ is not None
    return command_


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_in_the_help_are_commands(name: str) -> None:
    command = found(name)
    lines = [line.strip() for line in (command.epilog or "").splitlines() if line.strip().startswith("$ ")]
    assert len(lines) >= 2
    for line in lines:
        words = shlex.split(line[2:].rpartition(" | ")[2].removeprefix("$ "))
        assert words[:2] == ["ibllm", name]
        context = command.make_context(f"ibllm {name}", words[2:])
        assert context.params["run"] in (Path("runs/joint"), Path("runs/vqa"))


def test_help_and_completion_import_neither_torch_nor_what_draws() -> None:
    code = f"""
import contextlib, io, sys
from ibllm_cli.main import main
from click.shell_completion import BashComplete
from ibllm_cli.main import cli
with contextlib.redirect_stdout(io.StringIO()):
    for name in {COMMANDS}:
        main([name, "--help"])
BashComplete(cli, {{}}, "ibllm", "_IBLLM_COMPLETE").get_completions(["walk"], "")
print({{"torch", "PIL", "matplotlib", "rich", "numpy.linalg"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("set()", "{'numpy.linalg'}"), done.stdout + done.stderr


def completed(*words: str) -> list[str]:
    """What the shell offers for the last word."""
    complete = BashComplete(cli, {}, "ibllm", "_IBLLM_COMPLETE")
    return [item.value for item in complete.get_completions(list(words[:-1]), words[-1])]


def test_the_shell_completes_run_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("runs/joint", "runs/other/deep", ".hidden/run", "hub"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("runs/joint/recipe.toml", "runs/other/deep/recipe.toml", ".hidden/run/recipe.toml", "hub/model.safetensors"):
        (tmp_path / file).write_text('[evaluation]\nsplits = ["test", "novel"]\n')
    monkeypatch.chdir(tmp_path)
    for command in (*COMMANDS, "evaluate", "report", "compare"):
        assert completed(command, "") == ["hub", "runs/joint", "runs/other/deep"]
    assert completed("walk", "runs/j") == ["runs/joint"]
    assert completed("walk", f"{tmp_path}/ru") == [f"{tmp_path}/runs/joint", f"{tmp_path}/runs/other/deep"]
    assert completed("evaluate", "runs/joint", "--split", "n") == ["novel"]
    assert "metric.scene" in completed("plugins", "show", "metric.s")
    assert completed("generate", "--by", "") == ["reading", "agreement"]


def test_the_shell_completes_commands_without_importing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibllm_cli.main._load", lambda *_: pytest.fail("a command is imported"))
    assert {"caption", "check", "compare"} <= set(completed("c"))
    assert completed("gen") == ["generate"]


def test_a_shell_reads_what_completes_it() -> None:
    script = subprocess.run(
        [sys.executable, "-m", "ibllm"], env=os.environ | {"_IBLLM_COMPLETE": "bash_source"}, capture_output=True, text=True, check=False
    ).stdout
    assert "complete -o nosort" in script


def test_rows_are_columns_where_they_fit_and_below_each_other_where_not() -> None:
    rows, heads = [["a.png", "一个红色圆形", "-0.1"], ["long/name.png", "a circle", "-12.0"]], ("image", "text", "log p")
    wide = list(_laid_out(rows, heads, 80))
    assert [style for _, style in wide] == ["bold", "", ""]
    places = [cell_len(line[: line.index(word)]) for (line, _), word in zip(wide, ("log p", "-0.1", "-12.0"), strict=True)]
    assert len(set(places)) == 1, "wide characters count twice"
    narrow = list(_laid_out(rows, heads, 20))
    assert [line for line, _ in narrow][:3] == ["a.png", "  text: 一个红色圆形", "  log p: -0.1"]


def test_a_terminal_sees_aligned_lines_without_colour() -> None:
    code = "from ibllm_use.common import tell; tell({}, [('a', 'b')], False, ('name', 'what'))"
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stdout=theirs, env=os.environ | {"TERM": "xterm", "COLUMNS": "40"}, check=True)
    os.close(theirs)
    said = os.read(ours, 4096).decode()
    os.close(ours)
    assert re.sub(r"\x1b\[[0-9;]*m", "", said).split("\r\n") == ["name  what", "a     b", ""]
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", said), "NO_COLOR has nothing to take away"
