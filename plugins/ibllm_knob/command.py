"""``ibllm knob``: turn a number of a run while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ibllm.knobs import Knob

    from .state import State

#: Seconds that are waited for a run to take a knob up.
_WAIT = 5.0


@click.command(name="knob")
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.argument("knobs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--at", type=click.IntRange(min=0), metavar="STEP", help="From this step of the run on; by default from the next one.")
@click.option("--as-recipe", "as_recipe", is_flag=True, help="Print the run's recipe with what was turned in it, as schedules.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="With --as-recipe: the file to write it to.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the tables.")
def command(run: Path, knobs: tuple[str, ...], at: int | None, as_recipe: bool, output: Path | None, as_json: bool) -> None:
    """Turn KEY of the training in RUN to VALUE, from another terminal; without any, list what may be turned, and what it is now.

    A value is checked as in a recipe, may be a schedule, and holds from the next step on, in all processes alike. RUN/knobs.json keeps it: a run that
    is resumed turns it again, and so does `ibllm run RECIPE --knobs RUN`.
    """
    import json

    from ibllm_core.errors import UserError
    from ibllm_core.host.attribution import stdout_to_stderr
    from ibllm_core.runs.directory import write_text

    if as_recipe and (knobs or at is not None):
        raise UserError("--as-recipe prints what was turned; it turns nothing: expected no KEY=VALUE and no --at with it")
    if output is not None and not as_recipe:
        raise UserError("--output is where --as-recipe writes to: expected --as-recipe with it")
    if at is not None and not knobs:
        raise UserError("--at says from when on: expected KEY=VALUE with it")
    with stdout_to_stderr():
        from ibllm.knobs import turn

        from .as_recipe import as_recipe as written
        from .state import state

        text = written(run) if as_recipe else None
        done = turn(run, *knobs, at=at, by="ibllm knob", wait=_WAIT if at is None else 0.0) if knobs else None
        now = state(run)
    if text is not None and output is not None:
        write_text(output, text)
    elif text is not None:
        click.echo(text, nl=False)
    elif as_json:
        click.echo(json.dumps(now.plain(), indent=2, ensure_ascii=False))
    elif knobs:
        _tell(run, knobs, at, done, now)
    else:
        from rich.console import Console

        from .tables import tables

        for table in tables(now):
            Console(highlight=False).print(table)


def _tell(run: Path, knobs: Sequence[str], at: int | None, done: Knob | None, now: State) -> None:
    """What became of a knob."""
    from ibllm_cli.terminal import shown, typed

    said = shown(", ".join(knobs))
    if done is not None:
        click.echo(f"{said}: from step {done.step} on")
    elif not now.trains:
        click.echo(f"{said}: waits until the run goes on: {typed('ibllm', 'run', run, '--resume')}")
    elif at is not None:
        click.echo(f"{said}: from step {at} on, once the run comes there")
    else:
        click.echo(f"{said}: asked for; the run takes it up at its next step, with several processes at its next row of figures")
