"""``ibllm report``: write the report of a run again."""

from __future__ import annotations

from pathlib import Path

import click

from ibllm_cli.completion import RUN


@click.command(name="report")
@click.argument("run", type=RUN)
def command(run: Path) -> int:
    """Write RUN/report.html again from what the run directory holds.

    That works for a run that is training, was stopped or failed, too. Nothing else in RUN is changed.
    """
    from ibllm_cli.terminal import shown
    from ibllm_core.errors import UserError, system_error
    from ibllm_core.runs.directory import RunDirectory, read_json

    from .page import render

    directory = RunDirectory(run)
    if not directory.recipe.is_file():
        raise UserError(f"{run} is no run directory: it holds no recipe.toml")
    for name in ("run.json", "results.json"):
        try:
            read_json(directory / name)
        except UserError as error:
            click.echo(f"warning: {shown(error)}; the report is without it", err=True)
    try:
        click.echo(f"report   {shown(render(run))}")
    except OSError as error:
        raise UserError(f"cannot write the report into {run}: {system_error(error) or error}") from error
    return 0
