"""No output problem ends anything: encodings, pipes that are closed, devices that are full, names that steer a terminal."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ibllm_cli.display import Display, display
from ibllm_cli.live import LiveDisplay
from ibllm_cli.main import main
from ibllm_cli.terminal import enduring, shown, typed

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
SHORT = (
    "stages.text.steps=1",
    "stages.image.steps=0",
    "stages.joint.steps=0",
    "compute.threads=1",
    "evaluation.items=2",
    "compute.device=cpu",
)
SETS = [part for key in SHORT for part in ("--set", key)]
STEERS = "a\x1b[31m\u202eb\nc"


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def left() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.fixture
def standard_output(monkeypatch: pytest.MonkeyPatch):
    """Makes a descriptor standard output, as the command line does."""
    lost: dict[str, str] = {}
    for module in ("terminal", "main", "run"):
        monkeypatch.setattr(f"ibllm_cli.{module}.lost", lost)

    def put(handle: int, encoding: str = "utf-8") -> None:
        monkeypatch.setattr(sys, "stdout", enduring(handle, "standard output", encoding))

    return put


@pytest.mark.slow
@pytest.mark.parametrize(("handle", "why"), [(full, "No space left on device"), (left, "Broken pipe")])
def test_a_training_goes_on_when_nothing_can_be_said(standard_output, tmp_path: Path, handle: Callable[[], int], why: str) -> None:
    standard_output(handle())
    assert main(["run", str(TINY), "--run-dir", str(tmp_path / "run"), *SETS]) == 0
    info = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert (info["status"], info["output_lost"]) == ("done", {"standard output": why})


@pytest.mark.slow
def test_a_training_goes_on_in_ascii_whatever_its_names_are(standard_output, tmp_path: Path) -> None:
    recipe, written = tmp_path / "r.toml", tmp_path / "out.txt"
    stage = '"\\u001b[31mrot \\u202e [/] 🦄"'
    text = f'format = 1\nextends = "{TINY}"\nname = "été 🦄"\norder = [{stage}]\n[stages]\ntext = false\nimage = false\njoint = false\n'
    text += "[losses]\ntext_nll = false\njoint = false\nadversarial = false\npenalty = false\ncycle = false\n"
    recipe.write_text(
        f'{text}[stages.{stage}]\nsteps = 1\ntrain = ["text_encoder", "image_decoder"]\nlosses = {{ image_nll = 1.0 }}\n', encoding="utf-8"
    )
    standard_output(os.open(written, os.O_WRONLY | os.O_CREAT), "ascii")
    assert main(["run", str(recipe), "--run-dir", str(tmp_path / "été 🦄"), *SETS[6:]]) == 0
    said = written.read_text(encoding="utf-8")  # what click writes is UTF-8 in a locale without an encoding
    assert "stage 1/1 \\x1b[31mrot \\u202e [/] \\U0001f984: 1 steps" in said
    assert "\x1b" not in said
    rows = (tmp_path / "été 🦄" / "metrics.jsonl").read_text(encoding="utf-8")
    assert json.loads(rows.splitlines()[0])["stage"] == "\x1b[31mrot \u202e [/] 🦄", "files are UTF-8 and hold what there is"


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        ("> /dev/full", 2, "error: standard output: No space left on device; what was to be said there is lost\n"),
        (">&-", 2, "error: standard output: it is closed; what was to be said there is lost\n"),
        ("2>&-", 0, ""),
        ("2> /dev/full", 0, ""),
        ("| head -c 1", 0, ""),
    ],
)
def test_what_cannot_be_said_is_lost_and_told(redirection: str, code: int, said: str) -> None:
    line = f"set -o pipefail; {sys.executable} -m ibllm recipes {redirection}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize(
    "arguments", [["recipes", "--json"], ["plugins", "--json"], ["recipes"], ["plugins"], ["plugins", "show", "dataset.shapes"]]
)
def test_commands_speak_in_every_encoding_and_json_is_whole(standard_output, tmp_path: Path, arguments: list[str]) -> None:
    written = tmp_path / "out.txt"
    standard_output(os.open(written, os.O_WRONLY | os.O_CREAT), "ascii")
    assert main(arguments) == 0
    if "--json" in arguments:
        assert json.loads(written.read_text(encoding="utf-8"))


def test_nothing_that_is_shown_steers_a_terminal() -> None:
    assert shown(STEERS) == r"a\x1b[31m\u202eb\nc"
    assert shown("a\nb\x07", lines=True) == "a\nb\\x07"
    plain = "été 👩‍👩‍👧 हिन्दी क्\u200dष 日本 🏴\U000e0067\U000e007f עברית"
    assert shown(plain) == plain


def test_a_recipes_name_steers_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.toml").write_text(f'format = 1\nextends = "{TINY}"\nname = "a\\u001b[31m\\u202eb"\n', encoding="utf-8")
    assert main(["check", str(tmp_path / "r.toml")]) == 0
    assert capsys.readouterr().out.startswith("a\\x1b[31m\\u202eb: no mistakes")
    assert main(["diff", str(TINY), str(tmp_path / "r.toml")]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["plain", "two words", "it's", "-", "tab\there", STEERS, "back\\slash\x1b'", "été 🦄"])
def test_a_printed_command_is_one_that_works(name: str) -> None:
    command = typed("printf", "%s", name)
    assert shown(command) == command
    # A shell whose locale has UTF-8, as a terminal that shows such names has.
    assert subprocess.run(["bash", "-c", command], capture_output=True, env=os.environ | {"LC_ALL": "C.UTF-8"}).stdout.decode() == name


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_live_display_shows_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    screen = display(terminal, first=True)
    assert isinstance(screen, LiveDisplay)
    screen.say("[/] [bold] :smile: \x1b[2J")
    screen.close()
    assert "[/] [bold] :smile: \\x1b[2J" in terminal.getvalue()


def test_where_no_live_display_can_be_had_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, file: object) -> None:
        raise OSError("no such terminal")

    monkeypatch.setattr(LiveDisplay, "__init__", broken)
    terminal = Terminal()
    screen = display(terminal, first=True)
    screen.say("a line")
    assert type(screen) is Display
    assert terminal.getvalue() == "a line\n"
    monkeypatch.undo()
    assert type(display(Terminal(), first=False)) is Display


def test_a_display_that_dies_ends_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = display(Terminal(), first=True)
    assert isinstance(screen, LiveDisplay)
    monkeypatch.setattr(screen._screen, "update", lambda *_: 1 / 0)
    screen.close()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("COLUMNS", "x", "COLUMNS='x' is no size of a terminal"),
        ("COLUMNS", "²", "COLUMNS='²' is no size of a terminal"),
        ("COLUMNS", "99999999999", "COLUMNS='99999999999' is no size of a terminal"),
        ("LINES", "-1", "LINES='-1' is no size of a terminal"),
        ("IBLLM_TRACBACK", "1", "the environment has IBLLM_TRACBACK, which ibllm does not know; did you mean 'IBLLM_TRACEBACK'?"),
    ],
)
def test_variables_that_say_nothing_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.warns(UserWarning, match=said.replace("?", r"\?")):
        assert main(["recipes"]) == 0


@pytest.mark.parametrize("name", ["HOME", "TMPDIR", "LANG", "TERM", "PATH"])
def test_variables_that_are_missing_are_not_missed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name, raising=False)
    assert main(["recipes"]) == 0


def test_warnings_that_are_errors_end_no_command() -> None:
    environment = os.environ | {"PYTHONWARNINGS": "error", "COLUMNS": "x"}
    done = subprocess.run([sys.executable, "-m", "ibllm", "recipes"], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "warning: COLUMNS='x' is no size of a terminal and is left out of account\n")


def test_a_fault_of_ours_is_told_where_no_file_can_be_written(monkeypatch, capsys) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refused)
    monkeypatch.setattr("ibllm_cli.main.cli.main", lambda *_, **__: 1 / 0)
    assert main(["recipes"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("internal error: ZeroDivisionError: division by zero\nTraceback")
