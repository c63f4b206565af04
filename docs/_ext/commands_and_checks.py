"""What the conformance kit asks, and the command line: parts of the reference that `generated` asks for."""

from __future__ import annotations

import inspect
import re

import click
import markup
from ibllm_cli.main import cli, own_commands


def conformance(_: str = "") -> str:
    """Every check of every suite; what suites share is told once."""
    from ibllm_testing import SUITES, Suite
    from ibllm_testing.parts import PartSuite

    parts = [_suite("Every component", Suite), _suite("Every part of a model", PartSuite)]
    return "\n\n".join([*parts, *(_suite(f"`{kind}`: `{suite.__name__}`", suite) for kind, suite in SUITES.items())])


def fixtures(_: str = "") -> str:
    """Every fixture of the pytest plugin."""
    from ibllm_testing import fixtures as plugin

    names = [name for name in vars(plugin) if name == "device" or name.startswith("ibllm_")]
    return "\n\n".join(f"`{name}`\n: {markup.plain(' '.join(inspect.cleandoc(getattr(plugin, name).__doc__).split()))}" for name in names)


def _suite(title: str, suite: type) -> str:
    """What a suite adds to those that it extends: its attributes and its checks."""
    about = markup.plain(inspect.cleandoc(suite.__doc__ or "").partition("\n")[0])
    rows = [
        f"- {name.removeprefix('test_').replace('_', ' ')}: {markup.plain(' '.join(inspect.cleandoc(check.__doc__).split()))}"
        for name, check in vars(suite).items()
        if name.startswith("test_")
    ]
    attributes = re.findall(
        r"^    (\w+: .+(?:\n        .+)*)", inspect.cleandoc(suite.__doc__ or "").partition("Attributes:")[2], re.MULTILINE
    )
    stated = [f"- attribute `{line.partition(': ')[0]}`: {markup.plain(' '.join(line.partition(': ')[2].split()))}" for line in attributes]
    stated += [
        f"- method `{name}`: {markup.plain(' '.join(inspect.cleandoc(said).partition('Args:')[0].split()))}"
        for name, said in suite_methods(suite)
    ]
    return "\n".join([f"## {title}", "", about, "", *stated, *rows])


def suite_methods(suite: type) -> list[tuple[str, str]]:
    """What a suite has beside attributes and checks, with what is said of it; one without a docstring is told of where it comes from."""
    own = [(name, value) for name, value in vars(suite).items() if not name.startswith(("_", "test_")) and inspect.isfunction(value)]
    return [(name, value.__doc__) for name, value in own if value.__doc__]


def commands(_: str = "") -> str:
    """Every command of ibllm's own, from its help."""
    return "\n\n".join(_command(cli.get_command(click.Context(cli), name), f"ibllm {name}") for name in own_commands())


def _command(command: click.Command | None, path: str) -> str:
    assert command is not None
    context = click.Context(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    lines = [f"## {path}", "", markup.plain(inspect.cleandoc(command.help or "")), "", f"```text\n{usage}\n```", ""]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            value = "" if parameter.is_flag else f" {parameter.make_metavar(context)}"
            lines += [f"`{', '.join(parameter.opts)}{value}`\n: {markup.plain(parameter.help or '')}", ""]
    shown = [line.strip().removeprefix("$ ") for line in (command.epilog or "").splitlines() if line.strip().startswith("$ ")]
    lines += ["```sh", *shown, "```", ""] if shown else []
    if isinstance(command, click.Group):
        lines += [_command(command.get_command(context, name), f"{path} {name}") for name in command.list_commands(context)]
    return "\n".join(lines)
