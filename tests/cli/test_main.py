"""The one place where errors become messages and exit codes, and the commands that other packages bring."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

import click
import pytest
from ibllm_cli import main as cli

from ibllm_core.errors import UserError, nearest
from ibllm_core.host.entry_points import COMMANDS


@pytest.fixture
def raising(monkeypatch):
    """Makes ``ibllm fail`` raise what is given, or return it."""

    def prepare(outcome: object) -> None:
        @click.command()
        def fail() -> object:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setitem(sys.modules, "ibllm_fail", type(sys)("ibllm_fail"))
        sys.modules["ibllm_fail"].command = fail  # type: ignore[attr-defined]
        point = metadata.EntryPoint("fail", "ibllm_fail:command", COMMANDS)._for(metadata.distribution("ibllm"))  # type: ignore[attr-defined]
        monkeypatch.setattr(cli, "entry_points", lambda group: [point])

    return prepare


def test_a_commands_return_value_is_the_exit_code(raising):
    raising(None)
    assert cli.main(["fail"]) == 0
    raising(130)
    assert cli.main(["fail"]) == 130


def test_a_users_mistake_is_a_message_and_2(raising, capsys):
    raising(UserError("steps = -1: expected >= 0", place="job.toml:7"))
    assert cli.main(["fail"]) == 2
    assert capsys.readouterr().err == "error: job.toml:7: steps = -1: expected >= 0\n"


def test_an_interruption_is_130(raising, capsys):
    raising(KeyboardInterrupt())
    assert cli.main(["fail"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


@pytest.mark.parametrize("error", [ValueError("a bug\nsecond line"), OSError("a bug")])
def test_an_error_of_ours_is_1_and_leaves_its_traceback_in_a_file(raising, capsys, error):
    raising(error)
    assert cli.main(["fail"]) == 1
    message = capsys.readouterr().err
    assert re.match(r"internal error: (ValueError|OSError): .*a bug\n", message)
    assert "Traceback" not in message
    found = re.search(r"traceback is in (\S+) ", message)
    assert found
    file = Path(found[1])
    assert "Traceback" in file.read_text()
    file.unlink()


def test_a_traceback_is_shown_on_demand(raising, capsys, monkeypatch):
    monkeypatch.setenv(cli.TRACEBACK, "1")
    raising(ZeroDivisionError("a bug"))
    assert cli.main(["fail"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("name", cli.own_commands())
def test_every_command_of_the_table_is_there_and_explains_itself(name, capsys):
    assert cli.main([name, "--help"]) == 0
    assert f"Usage: ibllm {name} " in capsys.readouterr().out


def test_a_misspelt_command_gets_the_nearest(capsys):
    assert cli.main(["plugns"]) == 2
    assert "no command 'plugns'; did you mean 'plugins'?" in capsys.readouterr().err


def test_nearest_forgives_case_and_dashes():
    assert nearest("Gradient-Penalty", ["gradient_penalty", "cycle"]) == "gradient_penalty"
    assert nearest("xyz", ["gradient_penalty", "cycle"]) == ""


COMMAND = "import click\n@click.command()\ndef command():\n    click.echo('from afar')\n"


def test_a_strangers_command_is_listed_by_name_and_loaded_when_called(site, capsys):
    site.install("far", {"far": "far_command:command"}, {"far_command": COMMAND}, group=COMMANDS)
    assert cli.main(["--help"]) == 0
    assert re.search(r"far +from far==1\.0", capsys.readouterr().out)
    assert "far_command" not in sys.modules
    assert cli.main(["far"]) == 0
    assert capsys.readouterr().out == "from afar\n"


def test_help_says_what_a_command_does_and_imports_none(site, capsys):
    told = '"""``ibllm far``: paint from afar. More of the same line.\n\nAnd more."""\n1 / 0\n'
    site.install("far", {"far": "far_tools.command:command"}, {"far_tools.command": told}, group=COMMANDS)
    assert cli.main(["--help"]) == 0
    ours, _, others = capsys.readouterr().out.partition("Commands of other packages:")
    assert re.search(r"ablate +Plan, run and report", ours)
    assert re.search(r"plugin +Write a plugin package", ours)
    assert re.search(r"far +Paint from afar\. from far==1\.0", others)


@pytest.mark.parametrize(
    ("block", "command"), [("study", "ablate"), ("ibllm_study", "compare"), ("compare", "compare"), ("author", "plugin")]
)
def test_a_blocked_tool_brings_no_command(capsys, monkeypatch, block, command):
    monkeypatch.setenv("IBLLM_BLOCK", f"{block},report,testing")
    assert cli.main([command, "--help"]) == 2
    assert re.match(rf"error: the command '{command}' of ibllm==\S+ is blocked by IBLLM_BLOCK={block}\n", capsys.readouterr().err)
    assert cli.main(["--help"]) == 0
    assert f"(blocked by IBLLM_BLOCK={block})" in " ".join(capsys.readouterr().out.split())


def test_of_two_commands_of_one_name_one_may_be_blocked(site, capsys, monkeypatch):
    site.install("far", {"far": "far_command:command"}, {"far_command": COMMAND}, group=COMMANDS)
    site.install("farther", {"far": "farther_command:command"}, {"farther_command": "1 / 0"}, group=COMMANDS)
    monkeypatch.setenv("IBLLM_BLOCK", "farther_command")
    assert cli.main(["far"]) == 0
    assert capsys.readouterr().out == "from afar\n"


def test_a_strangers_command_cannot_replace_ours(site, capsys):
    site.install("far", {"plugins": "far_command:command"}, {"far_command": COMMAND}, group=COMMANDS)
    assert cli.main(["--help"]) == 0
    assert re.search(r"plugins +from far==1\.0 \(not available: ibllm has this name\)", capsys.readouterr().out)
    assert cli.main(["plugins", "show", "dataset"]) == 2
    assert "far_command" not in sys.modules


def test_two_strangers_with_one_command_name_are_both_named(site, capsys):
    site.install("far", {"far": "far_command:command"}, {"far_command": COMMAND}, group=COMMANDS)
    site.install("farther", {"far": "farther_command:command"}, {"farther_command": COMMAND}, group=COMMANDS)
    assert cli.main(["far"]) == 2
    assert capsys.readouterr().err == "error: the command 'far' is registered by far==1.0 and farther==1.0; uninstall all but one\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nothing_like_it", "failed to load: ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("import nothing_like_it", "far==1.0 needs nothing_like_it: install it, or all it needs with pip install --upgrade far"),
        ("import sys\nsys.exit('bye')", "failed to load: SystemExit: bye ("),
        ("command = 1", "is no click command; upgrade or uninstall far"),
    ],
)
def test_a_strangers_broken_command_is_blamed_on_it(site, capsys, source, message):
    site.install("far", {"far": "far_command:command"}, {"far_command": source}, group=COMMANDS)
    assert cli.main(["far"]) == 2
    assert capsys.readouterr().err.startswith("error: the command 'far' of far==1.0")
    cli.main(["far"])
    assert message in capsys.readouterr().err


def test_what_a_strangers_command_prints_when_imported_is_not_output(site, capsys):
    site.install("far", {"far": "far_command:command"}, {"far_command": "print('welcome')\n" + COMMAND}, group=COMMANDS)
    assert cli.main(["far"]) == 0
    assert capsys.readouterr() == ("from afar\n", "[far==1.0] welcome\n")


def test_an_error_of_a_strangers_command_is_not_ours(site, capsys):
    source = "import click\n@click.command()\ndef command():\n    raise KeyError('lost')\n"
    site.install("far", {"far": "far_command:command"}, {"far_command": source}, group=COMMANDS, version="0.3")
    assert cli.main(["far"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the command 'far' of far==0.3 raised KeyError: 'lost' (")
    assert "far_command.py:4); tell the maintainer of far, or upgrade it" in said


def test_a_strangers_command_ends_with_the_code_that_it_says(site):
    source = "import click, sys\n@click.command()\ndef command():\n    sys.exit(5)\n"
    site.install("far", {"far": "far_command:command"}, {"far_command": source}, group=COMMANDS)
    with pytest.raises(SystemExit) as ended:
        cli.main(["far"])
    assert ended.value.code == 5
