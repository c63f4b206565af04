"""``ibllm ablate``: plan, run and report an ablation study."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ibllm_cli.interrupts import on_interrupt
from ibllm_cli.terminal import shown
from ibllm_core.errors import UserError

if TYPE_CHECKING:
    from ibllm.launching import Launcher

    from .directory import StudyDirectory
    from .plan import Plan
    from .runner import Runner

INTERRUPTED = 130


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--study-dir", type=click.Path(path_type=Path, file_okay=False), help="Where the study goes; by default studies/NAME.")
@click.option("--jobs", type=click.IntRange(min=1), help="Runs at a time; by default as many as the cores (or the devices) take.")
@click.option("--devices", default="auto", show_default=True, help="Where runs go: auto, cpu, or e.g. cuda:0,cuda:1.")
@click.option("--launcher", default="local", show_default=True, help="Who computes the runs: local, submitit (SLURM), ray, or a package's.")
@click.option("--launch", multiple=True, metavar="KEY=VALUE", help="An option of the launcher; may be given several times.")
@click.option("--scale", type=click.FloatRange(min=0, min_open=True), help="Instead of the study's scale.")
@click.option("--seeds", type=click.IntRange(min=1), help="Instead of the study's seeds: 0, 1, … up to so many.")
@click.option("--plan", "only_plan", is_flag=True, help="Print every run, what differs, what is shared and what it costs; train nothing.")
@click.option(
    "--from-pilot", type=click.Path(path_type=Path, file_okay=False, exists=True), metavar="DIR",
    help="With --plan: how many seeds give 80 % power, resampled from the runs of a smaller study's directory.",
)  # fmt: skip
@click.option("--report", "only_report", is_flag=True, help="Write the tables and the page again from what is there; train nothing.")
@click.option("--verify", is_flag=True, help="Run a finished cell, chosen at random, once more and compare its figures bit for bit.")
@click.option("--retry", is_flag=True, help="Try the runs that failed again.")
@click.option(
    "--watch", is_flag=True, help="Serve the page while runs are under way, to this machine alone; with --report without training."
)
@click.option("--watch-port", type=click.IntRange(0, 65535), default=0, help="Of --watch; by default any that is free.")
@click.option(
    "--accept-code", is_flag=True, help="Keep and go on with the runs here, although source code or a run to start from has changed."
)
def command(
    study: Path,
    study_dir: Path | None,
    jobs: int | None,
    devices: str,
    launcher: str,
    launch: tuple[str, ...],
    scale: float | None,
    seeds: int | None,
    only_plan: bool,
    from_pilot: Path | None,
    only_report: bool,
    verify: bool,
    retry: bool,
    watch: bool,
    watch_port: int,
    accept_code: bool,
) -> int:
    """Run the ablation study of the file STUDY and write its tables.

    It may be stopped at any time and started again by the same command: what is done is kept, what was under way goes on.
    """
    if only_plan + only_report + verify > 1:
        raise UserError("--plan, --report and --verify exclude each other")
    if from_pilot is not None and not only_plan:
        raise UserError("--from-pilot: expected --plan beside it")
    from ibllm.launching import Place, make_launcher

    from .checking import choose_devices
    from .directory import StudyDirectory
    from .plan import make_plan
    from .study_file import read_study

    read = read_study(study, scale=scale, seeds=seeds)
    directory = StudyDirectory(study_dir or Path("studies") / read.name)
    threads, said = directory.threads(read), os.environ.get("OMP_NUM_THREADS", "")
    if threads != read.table.threads:
        read = read_study(study, scale=scale, seeds=seeds, threads=threads)
    if said not in ("", str(threads)):
        whose = "as its file says" if "threads" in read.document.data else "as the runs here have"
        click.echo(
            f"note: runs of this study have {threads} thread{'s' * (threads > 1)}, {whose}; OMP_NUM_THREADS={said} is not used", err=True
        )
    plan = make_plan(directory.accept(read, accept_code))
    _tell(plan, directory, accept_code)
    if read.table.design == "search":
        from .trials import plan_from_storage

        plan = plan_from_storage(plan, directory)
    if only_plan:
        from .preview import preview

        preview(plan, directory, from_pilot)
        return 0
    port = watch_port if watch else None
    if only_report or verify:
        directory.check_held(plan)
        return _verify(plan, directory) if verify else _report(plan, directory) if port is None else _look_on(plan, directory, port)
    where = Place(folder=directory / "jobs", jobs=jobs, devices=tuple(choose_devices(devices)), threads=read.table.threads)
    return _run(plan, directory, make_launcher(launcher, launch, where), retry, accept_code, port)


def _look_on(plan: Plan, directory: StudyDirectory, port: int) -> int:
    """Serves the page of a study that another invocation may be at, until it is interrupted."""
    import threading

    from .runner import Progress
    from .watch import LOOK, Board, served

    board, ended = Board(plan, directory), threading.Event()
    with on_interrupt(ended.set), served(board, port) as address:
        click.echo(f"watch    {address} (Ctrl-C ends it)")
        while True:
            now = {cell.id: directory.outcome(cell) for cell in plan.cells}
            board.seen(
                {name: Progress(status=outcome.status, results=outcome.results, reason=outcome.reason) for name, outcome in now.items()}
            )
            if ended.wait(LOOK):
                return 0


def _tell(plan: Plan, directory: StudyDirectory, accepted: bool) -> None:
    """Says where the source, or a run to start from, is not what the runs that are here were made with."""
    edited, what = directory.changed(plan), f"note: the runs in {directory.path}"
    if plan.sources is None and plan.here:
        click.echo(f"{what} do not say with which state of {', '.join(plan.here)} they were made; they are kept", err=True)
    elif edited:
        happens = (
            "they are kept (--accept-code)"
            if accepted
            else "others are made, and these are kept beside them; --accept-code goes on with these"
        )
        click.echo(f"{what} were made with another state of {', '.join(edited)}: {happens}", err=True)


def _run(plan: Plan, directory: StudyDirectory, launcher: Launcher, retry: bool, accept_code: bool, port: int | None = None) -> int:
    from ibllm_core.host.attribution import stdout_to_stderr

    from . import display as study_display
    from .checking import check_arms
    from .runner import Runner, failed

    study = plan.study
    with stdout_to_stderr():
        check_arms(plan)
    directory.prepare(plan)
    if retry:
        directory.forget_failures(plan.cells)
        if study.table.design == "search":
            from . import trials

            trials.retry(plan, directory)
    screen = study_display.choose(plan)
    from .watch import Board, served

    board = Board(plan, directory, screen)
    runner = Runner(plan, directory, launcher, board, accept_code)
    try:
        with _interruptible(runner), served(board, port) if port is not None else nullcontext("") as address:
            if address:
                screen.say(f"watch    {address}")
            if study.table.design == "search":
                from .search import explore

                plan = explore(plan, directory, runner)
            elif study.table.sequential is not None:
                from .looks import Stopping

                runner.run(Stopping(plan, directory, runner))
            else:
                runner.run()
    finally:
        screen.close()
    if runner.stopped:
        click.echo("stopped; the same command goes on; with --report it writes the tables so far", err=True)
        return INTERRUPTED
    wrong = failed(runner.outcomes)
    _report(plan, directory)
    for name in wrong:
        click.echo(f"failed   {name}: {runner.outcomes[name].reason}  (log: {directory / 'logs' / (name + '.txt')})", err=True)
    if wrong:
        rest = f", {len(runner.held)} were not started, for they would fail alike" if runner.held else ""
        click.echo(f"{len(wrong)} of {len(plan.cells)} runs failed{rest}; to try them again: the same command with --retry", err=True)
    return 1 if wrong else 0


def _report(plan: Plan, directory: StudyDirectory) -> int:
    from .outputs import write_outputs

    for line in write_outputs(plan, directory):
        click.echo(shown(line, lines=True))
    return 0


def _verify(plan: Plan, directory: StudyDirectory) -> int:
    from .verify import verify

    return 0 if verify(plan, directory, click.echo) else 1


def _interruptible(runner: Runner) -> AbstractContextManager[None]:
    """The first Ctrl-C (or SIGTERM) asks the runs to stop with a checkpoint; the second one ends them at once."""

    def stop() -> None:
        click.echo(
            "ending the runs" if runner.stopped else "stopping the runs, each with a checkpoint; once more to end them at once", err=True
        )
        runner.stop()

    return on_interrupt(stop)
