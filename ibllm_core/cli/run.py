"""``ibllm run``: train and evaluate what a recipe describes."""

from __future__ import annotations

import shlex
import sys
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UserError
from ..host.output import stdout_to_stderr
from .display import Display, LiveDisplay
from .interrupts import on_interrupt

if TYPE_CHECKING:
    from ..recipe.schema import Recipe
    from ..training.job import Job

INTERRUPTED = 130


@click.command(name="run")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--run-dir", type=click.Path(path_type=Path, file_okay=False), help="Where the run goes; by default runs/NAME.")
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the recipe's seed (of weights, data and evaluation alike).")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a key, e.g. stages.joint.steps=40; may be repeated.")
@click.option("--resume", is_flag=True, help="Go on from the newest good checkpoint. RECIPE may be the run directory.")
@click.option("--accept-code", is_flag=True, help="Resume although source code, or a run that weights are taken from, has changed since.")
def command(recipe: Path, run_dir: Path | None, seed: int | None, sets: tuple[str, ...], resume: bool, accept_code: bool) -> int:
    """Train RECIPE's stages, measure the result and write a report.

    Ctrl-C stops at the next step with a checkpoint.
    """
    resolved, directory = _resolve(recipe, run_dir, seed, sets, resume)
    from ..training.distributed import first_process
    from ..training.job import Interrupted, Job

    # Of several processes the first one speaks.
    first, command = first_process(), shlex.join(["ibllm", *sys.argv[1:]])
    try:
        # What components print goes to standard error.
        with stdout_to_stderr() as ours, closing((LiveDisplay if first and ours.isatty() else Display)(ours)) as screen:
            job = Job(resolved, directory, [screen], command)
            if first:
                stages = ", ".join(f"{stage.name} {stage.steps}" for stage in resolved.running())
                screen.say(f"{resolved.name}: {stages} steps → {directory}")
            with interruptible(job):
                results = job.run(resume, accept_code)
    except Interrupted as stopped:
        click.echo(f"{stopped}; go on with: ibllm run {shlex.quote(str(directory))} --resume", err=True)
        return INTERRUPTED
    if first:
        from rich.console import Console

        from ..runs.glossary import Glossary
        from .results_table import results_table

        Console().print(results_table(results, Glossary.of(resolved)))
        for name in job.blocked:
            click.echo(f"no {name}: blocked")
        if job.directory.report.is_file():
            click.echo(f"report   {job.directory.report}")
        click.echo(f"figures  {job.directory.results}")
        click.echo(f"next     ibllm evaluate {directory} --split {resolved.evaluation.splits[-1]}")
        click.echo(f"         ibllm run {recipe} --run-dir {directory}-2 --seed {resolved.seed.init + 1}")
    return 0


def _resolve(recipe: Path, run_dir: Path | None, seed: int | None, sets: tuple[str, ...], resume: bool) -> tuple[Recipe, Path]:
    """The recipe and its run directory; with `resume`, the recipe is the one that the run wrote down when it started."""
    from ..recipe import load
    from ..runs.directory import RunDirectory

    again = recipe.is_dir()
    if again and not resume:
        raise UserError(f"{recipe} is a directory; to go on with a run: ibllm run {recipe} --resume")
    resolved = None if again else load(recipe, sets, seed)
    directory = recipe if resolved is None else run_dir or Path("runs") / resolved.name
    if resolved is not None and not resume:
        return resolved, directory
    if not (directory / "recipe.toml").is_file():
        raise UserError(f"nothing to resume: {directory} is no run directory")
    if again and (run_dir is not None or seed is not None or sets):
        raise UserError("a run goes on as it was started: --run-dir, --seed and --set do not go with resuming a run directory")
    started = RunDirectory(directory).load()
    if resolved is not None and started.source != resolved.source:
        raise UserError(f"{directory} was started from another recipe; see: ibllm diff {directory} {recipe}")
    return started, directory


def interruptible(job: Job) -> AbstractContextManager[None]:
    """The first Ctrl-C (or SIGTERM) asks the job to stop at a step boundary; the second one stops at once."""

    def stop() -> None:
        if job.stopping:
            raise KeyboardInterrupt
        job.stop()
        click.echo("stopping at the next step, with a checkpoint; once more to stop at once", err=True)

    return on_interrupt(stop)
