"""``ibllm``: the table of commands, and the one place where an error becomes a message and an exit code.

A command is an entry point of the group ``ibllm.commands``, ours and other packages' alike, and stands for a click command; what its function returns
is the exit code (None is 0). Exit codes: 0 done, 2 the user's mistake, 1 ours, 130 interrupted. None of another package replaces one of ours.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import warnings
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ibllm_core.errors import Notice, UserError, suggestion, system_error
from ibllm_core.host.entry_points import BLOCK, COMMANDS, OURS, Origin, block_of, file_of, identity, origin_of
from ibllm_core.host.entry_points import registered as entry_points

from .terminal import endure, lost, shown

#: Where a context keeps the `Origin` of the command that it is for.
_ORIGIN = "ibllm_cli.main.origin"
#: Environment variable: any value but an empty one, 0, no and false shows tracebacks.
TRACEBACK = "IBLLM_TRACEBACK"
#: Environment variable: the folder of what can be made again (`ibllm.search`).
CACHE = "IBLLM_CACHE"


class Commands(click.Group):
    """The commands, each imported when it is called, so that one command's start-up costs nothing to the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        ours, others = _registered()
        return sorted({*ours, *others})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        points = next((table[cmd_name] for table in _registered() if cmd_name in table), None)
        if points is None:
            return None
        command, ctx.meta[_ORIGIN] = _load(cmd_name, points)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands with what each does, none of them imported."""
        ours, others = _registered()
        found = [CompletionItem(name, help=_summary(points[0].value)) for name, points in sorted({**others, **ours}.items())]
        return [*(item for item in found if item.value.startswith(incomplete)), *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        """An error of another package's command names the package."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort, UserError):
            raise
        except Exception as error:
            origin = ctx.meta.get(_ORIGIN)
            if origin is None or origin.distribution == OURS or system_error(error) is not None:
                raise
            from ibllm_core.host.attribution import cause

            helps = f"tell the maintainer of {origin.distribution}, or upgrade it ({TRACEBACK}=1 shows the traceback)"
            raise UserError(f"the command {origin.plugin!r} of {origin} raised {cause(error)}; {helps}") from error

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is not None:
            return args[0], command, args[1:]
        if not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}; {suggestion(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        ours, others = _registered()
        for title, table in (("Commands", ours), ("Commands of other packages", others)):
            rows = []
            for name, points in table.items():
                said = [_summary(points[0].value)] if len(points) == 1 else []
                if table is others:
                    said += [f"from {_from(points)}", *(["(not available: ibllm has this name)"] if name in ours else [])]
                rows.append((name, " ".join([*said, *(f"(blocked by {BLOCK}={block})" for block in map(block_of, points) if block)])))
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def own_commands() -> list[str]:
    """The commands of this distribution, those of its tools included."""
    return list(_registered()[0])


def _registered() -> tuple[dict[str, list[EntryPoint]], dict[str, list[EntryPoint]]]:
    """Our commands and those of other packages: name → entry points, more than one where packages clash."""
    ours: dict[str, list[EntryPoint]] = {}
    others: dict[str, list[EntryPoint]] = {}
    for point in sorted(entry_points(COMMANDS), key=lambda point: point.name):
        table = ours if identity(point.dist)[0] == OURS else others
        table.setdefault(point.name, []).append(point)
    return ours, others


def _from(points: Sequence[EntryPoint]) -> str:
    return " and ".join(sorted("==".join(identity(point.dist)) for point in points))


def _load(name: str, points: Sequence[EntryPoint]) -> tuple[click.Command, Origin]:
    points = [point for point in points if not block_of(point)] or points[:1]
    if len(points) > 1:
        raise UserError(f"the command {name!r} is registered by {_from(points)}; uninstall all but one")
    origin = origin_of(points[0])
    who = f"the command {name!r} of {origin}"
    if block_of(points[0]):
        raise UserError(f"{who} is blocked by {BLOCK}={block_of(points[0])}")
    from ibllm_core.host.attribution import remedy, running

    with running(origin, f"{who} failed to load", importing=points[0].value):
        command = points[0].load()
    if not isinstance(command, click.Command):
        raise UserError(f"{who}, {points[0].value}, is no click command; {remedy(TypeError(), origin)}")
    return command, origin


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ibllm", message="%(prog)s %(version)s")
def cli() -> None:
    """Text to image and image to text: train, compare and take apart bidirectional models."""


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code; every error ends here."""
    endure()
    warnings.formatwarning = _one_line
    warnings.simplefilter("always", Notice)
    code = _run(args)
    if (why := lost.pop("standard output", "")) and why != os.strerror(errno.EPIPE):  # a reader that has gone (``| head``) wants no more
        click.echo(f"error: standard output: {why}; what was to be said there is lost", err=True)
        return code or 2
    return code


def _run(args: Sequence[str] | None) -> int:
    try:
        check_environment()
        code = cli.main(args, prog_name="ibllm", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except Exception as error:
        return _report(error)


def _one_line(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """A notice as a line; other warnings with the place that they are about."""
    place = "" if issubclass(category, Notice) else f"{filename}:{lineno}: "
    return f"warning: {shown(f'{place}{message}', lines=True)}\n"


def check_environment() -> None:
    """Warns of environment variables that say nothing that can be used; a width that no terminal has is left out of account."""
    for name in (name for name in os.environ if name.startswith("IBLLM_") and name not in (BLOCK, CACHE, TRACEBACK)):
        warnings.warn(
            Notice(f"the environment has {name}, which ibllm does not know; {suggestion(name, (BLOCK, CACHE, TRACEBACK))}"), stacklevel=2
        )
    for name in ("COLUMNS", "LINES"):
        if not re.fullmatch(r"|[1-9][0-9]{0,3}", os.environ.get(name, "")):
            warnings.warn(Notice(f"{name}={os.environ.pop(name)!r} is no size of a terminal and is left out of account"), stacklevel=2)


def _report(error: Exception) -> int:
    """Says what went wrong, and gives the exit code: a user's mistake in its own words, an error of ours with its traceback in a file."""
    import tempfile
    import traceback

    from .launch import report

    # A file system whose encoding lacks a name's characters raises this, and no OSError.
    users = (
        UserError(f"{error}; let the locale have UTF-8 (LC_ALL=C.UTF-8)") if isinstance(error, UnicodeEncodeError) else system_error(error)
    )
    users = error if isinstance(error, UserError) else users
    with contextlib.suppress(OSError):
        report(users or error)
    wants = os.environ.get(TRACEBACK, "").lower() not in ("", "0", "no", "false")
    if wants:
        traceback.print_exc()
    if users is not None:
        click.echo(f"error: {shown(users, lines=True)}", err=True)
        return 2
    if not wants:
        text = shown(f"{type(error).__name__}: {error}".strip().splitlines()[0])
        try:
            with tempfile.NamedTemporaryFile("w", prefix="ibllm-", suffix=".txt", delete=False, encoding="utf-8") as file:
                traceback.print_exc(file=file)
            place = f"The traceback is in {file.name} (or set {TRACEBACK}=1 to see it here)."
        except OSError:
            place = traceback.format_exc()
        click.echo(f"internal error: {text}\n{place}", err=True)
    return 1


def _summary(value: str) -> str:
    """The first sentence of what a module says of itself, read without importing it; a leading command (```ibllm run``: ``) is left out."""
    import ast

    try:
        text = ast.get_docstring(ast.parse(Path(file_of(value)).read_bytes())) or ""
    except (OSError, SyntaxError, ValueError):
        return ""
    sentence = re.match(r"(?:``ibllm [^`]*``: *)?(.*?[.!?](?=\s|$)|.*)", text)
    return sentence[1][:1].upper() + sentence[1][1:] if sentence else ""
