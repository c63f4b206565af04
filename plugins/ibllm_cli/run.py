"""``ibllm run``: train and evaluate what a recipe describes."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ibllm_core.errors import UserError
from ibllm_core.host.attribution import stdout_to_stderr
from ibllm_core.runs.directory import RunDirectory

from .display import display
from .interrupts import on_interrupt
from .launch import launch, processes
from .terminal import lost, shown, standard_output, typed

if TYPE_CHECKING:
    from ibllm_core.recipe.schema import Recipe
    from ibllm_core.training.job import Job

INTERRUPTED = 130


@click.command(name="run")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--run-dir", type=click.Path(path_type=Path, file_okay=False), help="Where the run goes; by default runs/NAME.")
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the recipe's seed (of weights, data and evaluation alike).")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a key, e.g. stages.joint.steps=40; may be repeated.")
@click.option("--device", help="Where to train, e.g. cpu or cuda:1, instead of the recipe's compute.device.")
@click.option("--resume", is_flag=True, help="Go on from the newest good checkpoint. RECIPE may be the run directory.")
@click.option("--knobs", type=click.Path(path_type=Path), help="Turn what another run, or a knobs.json, has turned, at the same steps.")
@click.option("--nproc", metavar="N", help="Train in N processes of this machine (auto: one a GPU): torchrun's short form.")
@click.option("--accept-code", is_flag=True, help="Resume although source code, or a run that weights are taken from, has changed since.")
@click.option("--accept-data", is_flag=True, help="Resume although the data have changed since; what changed is told.")
def command(
    recipe: Path,
    run_dir: Path | None,
    seed: int | None,
    sets: tuple[str, ...],
    device: str | None,
    resume: bool,
    knobs: Path | None,
    nproc: str | None,
    accept_code: bool,
    accept_data: bool,
) -> int:
    """Train RECIPE's stages, measure the result and write a report.

    Ctrl-C stops at the next step with a checkpoint.
    """
    resolved, directory = _resolve(recipe, run_dir, seed, sets, resume)
    from ibllm.api import on_device
    from ibllm.knobs import replaying
    from ibllm.sources import accepting
    from ibllm_core.training.distributed import described
    from ibllm_core.training.job import Interrupted, Job

    if resume and knobs is not None:
        raise UserError("a run that goes on turns what it has turned itself: --knobs does not go with --resume")
    (rank, ranks, _), launched = described(), "TORCHELASTIC_RUN_ID" in os.environ
    if nproc is not None:
        count = processes(nproc, device or resolved.compute.device)
        if count != ranks and (launched or ranks > 1):
            raise UserError(f"--nproc {nproc}, but torchrun has started {ranks} processes (WORLD_SIZE): expected one of the two")
        if count != ranks:
            if not resume:
                RunDirectory(directory).require_new()
            flags = {"--resume": resume, "--accept-code": accept_code, "--accept-data": accept_data}
            return launch(_words(recipe, run_dir, seed, sets, device, nproc, knobs, flags), count, resolved.compute.threads)
    # Of several processes the first one speaks.
    first, said = rank == 0, shlex.join(["ibllm", *sys.argv[1:]])
    try:
        # What components print goes to standard error.
        with standard_output() as ours, stdout_to_stderr(), closing(display(ours, first)) as screen:
            job = Job(on_device(resolved, device), directory, [screen], said)
            with interruptible(job, first), accepting(code=accept_code, data=accept_data), replaying(knobs):
                results = job.run(resume)
    except Interrupted as stopped:
        more = () if nproc is None else ("--nproc", nproc)
        if first:
            click.echo(f"{shown(stopped)}; go on with: {typed('ibllm', 'run', directory, '--resume', *more)}", err=True)
        return INTERRUPTED
    else:
        if first:
            _tell(job, results)
    finally:
        if first and lost and (directory / "run.json").is_file():
            # What a training says is not what it is for.
            with suppress(OSError, UserError):
                RunDirectory(directory).update(output_lost=dict(lost))
                lost.clear()
    return 0


def _tell(job: Job, results: Mapping[str, float]) -> None:
    """What listeners have to say (the table of figures), else the figures, a line each; where everything is, and what to do next."""
    from rich.console import Console

    from ibllm.glossary import Glossary

    recipe, path = job.recipe, job.directory.path
    glossary = Glossary.of(recipe)
    named = {key: (split, glossary.figure(name)) for key in results for split, _, name in [key.partition("/")]}
    lines = [f"{split}  {figure.full_label}: {figure.shown(results[key])}" for key, (split, figure) in named.items()]
    for said in job.closing or ["\n".join(lines)]:
        if isinstance(said, str):
            click.echo(said)
        else:
            Console().print(said)
    for name in job.blocked:
        click.echo(f"no {name}: blocked")
    click.echo(f"figures  {shown(job.directory.results)}")
    click.echo(f"next     {typed('ibllm', 'evaluate', path, '--split', glossary.first_split(recipe.evaluation.splits) or 'SPLIT')}")
    other = next(place for number in itertools.count(2) if not (place := path.with_name(f"{path.name}-{number}")).exists())
    # The run's own copy of the recipe has what --set said.
    click.echo(f"         {typed('ibllm', 'run', job.directory.recipe, '--run-dir', other, '--seed', recipe.seed.init + 1)}")


def _resolve(recipe: Path, run_dir: Path | None, seed: int | None, sets: tuple[str, ...], resume: bool) -> tuple[Recipe, Path]:
    """The recipe and its run directory: of a directory that is resumed, the recipe that it holds, with `sets` laid over."""
    from ibllm.opening import load_run
    from ibllm_core.recipe import load

    again = recipe.is_dir()
    if again and not resume:
        raise UserError(f"{recipe} is a directory; to go on with a run: {typed('ibllm', 'run', recipe, '--resume')}")
    resolved = None if again else load(recipe, sets, seed)
    directory = recipe if resolved is None else run_dir or Path("runs") / resolved.name
    if resume and not (directory / "recipe.toml").is_file():
        raise UserError(f"nothing to resume: {directory} is no run directory")
    if again and (run_dir is not None or seed is not None):
        raise UserError("a run goes on in its directory, with its seed: --run-dir and --seed do not go with resuming a run directory")
    return load_run(RunDirectory(directory), sets) if resolved is None else resolved, directory


def _words(
    recipe: Path,
    run_dir: Path | None,
    seed: int | None,
    sets: tuple[str, ...],
    device: str | None,
    nproc: str,
    knobs: Path | None,
    flags: Mapping[str, bool],
) -> list[str]:
    """The command, for each of several processes."""
    said = {"--run-dir": run_dir, "--seed": seed, "--device": device, "--nproc": nproc, "--knobs": knobs}
    words = [word for name, value in said.items() if value is not None for word in (name, str(value))]
    words += [word for key in sets for word in ("--set", key)]
    words += [name for name, wanted in flags.items() if wanted]
    return ["run", *words, "--", str(recipe)]


def interruptible(job: Job, speaks: bool = True) -> AbstractContextManager[None]:
    """The first Ctrl-C (or SIGTERM, or SIGHUP) asks the job to stop at a step boundary; a further Ctrl-C stops at once."""

    def stop() -> None:
        if job.stopping:
            raise KeyboardInterrupt
        job.stop()
        if speaks:
            click.echo("stopping at the next step, with a checkpoint; once more to stop at once", err=True)

    return on_interrupt(stop)
