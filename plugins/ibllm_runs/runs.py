"""``ibllm runs``: list the runs in a folder with status, step, figures and what happened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from .survey import Seen

#: What is said of a run in the table; ``--json`` has all of it.
_SENTENCES = 3


@click.command(name="runs")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="A JSON list: path, name, status, stage, step, steps, figures, created, changed, …")
def command(folder: Path | None, as_json: bool) -> None:
    """List the runs in FOLDER (by default runs) and below, those of studies too: status, step, figures, and what happened.

    A run that says it is running though no process is at it any more was killed; ibllm run RUN --resume goes on with it.
    """
    import json

    from rich.console import Console

    from .survey import runs_below, seen

    where = folder or Path("runs")
    found = [seen(path) for path in runs_below(where)] if folder or where.is_dir() else []
    if as_json:
        click.echo(json.dumps([one.plain() for one in found], indent=2, ensure_ascii=False))
    elif found:
        Console(highlight=False).print(_table(where, found))
        _say(found)
    else:
        click.echo(f"no runs in {where}")


def _table(folder: Path, found: Sequence[Seen]) -> object:
    from rich.table import Table
    from rich.text import Text

    from ibllm_cli.terminal import shown

    table = Table()
    for head, side in (("run", "left"), ("status", "left"), ("step", "right"), ("figures", "left")):
        table.add_column(head, justify="right" if side == "right" else "left", overflow="fold")
    for one in found:
        where = one.path.relative_to(folder).as_posix()
        step = f"{one.step:,}" + (f" / {one.steps:,}" if one.steps is not None else "") + (f" {one.stage}" if one.stage else "")
        figures = "\n".join(f"{name} {value:.4g}" for name, value in one.figures.items())
        table.add_row(*(Text(shown(cell, lines=True)) for cell in (where if where != "." else one.name, one.status, step, figures)))
    return table


def _say(found: Sequence[Seen]) -> None:
    """What happened, a few lines each, and how to go on."""
    from ibllm_cli.terminal import shown, typed

    for one in found:
        lines = [f"  {sentence}" for sentence in one.happened[:_SENTENCES]]
        if len(one.happened) > _SENTENCES:
            lines.append(f"  … and {len(one.happened) - _SENTENCES} more (--json)")
        if one.holder is not None:
            lines.append("  trained by process {} on {} since {}".format(*(one.holder.get(key, "?") for key in ("pid", "host", "since"))))
        if one.status in ("killed", "interrupted", "failed"):
            lines.append(f"  go on with: {typed('ibllm', 'run', one.path, '--resume')}")
        if lines:
            click.echo(shown("\n".join([f"{one.path}: {one.status}", *lines]), lines=True))
