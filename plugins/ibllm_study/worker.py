"""One cell in a process of its own: ``python -m ibllm_study.worker TASK``; TASK is a JSON file that the runner wrote.

Locks, not the runner, keep a run or a shared stage from being trained twice: they belong to this process and go with it, however it ends.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ibllm.data_prints import of_files
from ibllm.sources import accepting, changed, sources
from ibllm_cli.terminal import endure
from ibllm_core.errors import UserError, system_error
from ibllm_core.runs.directory import Held, RunDirectory

from .sharing import Prefix, Shelf, end_of, finished

if TYPE_CHECKING:
    from ibllm_core.recipe.schema import Recipe

#: Exit codes beside 0: the run or a stage it needs is being trained by somebody else; it stopped because it was asked to; it failed.
BUSY, STOPPED, FAILED = 75, 130, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the task; its exit code says how it ended, its output is the run's log."""
    from filelock import Timeout

    (path,) = sys.argv[1:] if arguments is None else arguments
    endure()
    task: Mapping[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    run, shelf = RunDirectory(Path(task["run"])), Shelf(Path(task["shelf"]))
    locks = Path(task["locks"])
    chain = [Prefix(**prefix) for prefix in task["prefixes"]]
    _follow_parent()
    with ExitStack() as held:
        try:
            held.enter_context(run.held())
            if finished(run):
                return 0
            _publish_late(chain, shelf, run)
            claims = _claim(held, chain, shelf, locks, run)
            return _train(run, shelf, chain, claims, task)
        except (Held, Timeout):
            return BUSY
        except (UserError, OSError) as error:
            said = error if isinstance(error, UserError) else system_error(error)
            if said is None:
                raise
            print(f"error: {said}", flush=True)
            return FAILED


def _follow_parent() -> None:
    """Stops the run, with a checkpoint, once nobody is there any more who waits for it: the pipe on standard input ends with its other side."""

    def wait() -> None:
        # Not sys.stdin: a thread that waits in its buffer keeps the interpreter from ending.
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    if not sys.stdin.isatty():
        threading.Thread(target=wait, daemon=True).start()


def _publish_late(chain: Sequence[Prefix], shelf: Shelf, run: RunDirectory) -> None:
    """Puts on the shelf what this run has trained but was killed before it could share."""
    ends = [prefix for prefix in chain if prefix not in shelf and (run.checkpoints / end_of(prefix)).is_dir()]
    if not ends:
        return
    from ibllm_core.training.checkpoints import load

    for prefix in ends:
        with suppress(UserError):
            load(run.checkpoints / end_of(prefix))
            shelf.keep(prefix, run)


def _claim(held: ExitStack, chain: Sequence[Prefix], shelf: Shelf, locks: Path, run: RunDirectory) -> dict[str, Any]:
    """The locks of the shared stages that this run is about to train; raises `Timeout` where another run trains one."""
    from filelock import FileLock

    claims: dict[str, Any] = {}
    start = max((prefix.step for prefix in chain if prefix in shelf), default=0)
    for prefix in chain:
        if prefix.step > start and prefix.step > _step(run):
            claims[prefix.stage] = lock = FileLock(locks / f"{prefix.key}.lock", timeout=0)
            held.enter_context(lock)
    return claims


def _step(run: RunDirectory) -> int:
    """Iterations that the newest checkpoint of a run has behind it; 0 without one."""
    names = [path.name for path in run.checkpoints.glob("step-*")]
    return max((int(name.split("-")[1]) for name in names), default=0)


def _train(run: RunDirectory, shelf: Shelf, chain: Sequence[Prefix], claims: Mapping[str, Any], task: Mapping[str, Any]) -> int:
    from ibllm.api import on_device
    from ibllm_cli.display import Display
    from ibllm_cli.run import interruptible
    from ibllm_core.recipe import load
    from ibllm_core.training.events import Listener, StageEnded
    from ibllm_core.training.job import Interrupted, Job

    recipe, planned = load(Path(task["recipe"])), task["sources"]
    if planned is not None and (others := changed(planned, sources(recipe))):
        raise UserError(
            f"{', '.join(others)} changed while the study ran: start it again, which plans with what is here, or with --accept-code"
        )
    if task["data"] not in (None, of_files(recipe)):
        raise UserError("the data changed while the study ran: start it again, which plans with what is here")
    resume = _place(recipe, run, shelf, chain)

    class Publishing(Listener):
        """Puts the stages that others start from on the shelf."""

        def on_stage_ended(self, event: StageEnded) -> None:
            for prefix in chain:
                if prefix.stage == event.stage.name:
                    shelf.keep(prefix, run)
                    if prefix.stage in claims:
                        claims[prefix.stage].release()

    # Of several devices a worker sees its own alone, which is then the first.
    recipe = on_device(recipe, "auto" if ":" in recipe.compute.device else None)
    job = Job(recipe, run.path, (Display(), Publishing()), str(task["command"]))
    try:
        with interruptible(job), accepting(code=planned is None):
            job.run(resume)
    except Interrupted:
        return STOPPED
    return 0


def _place(recipe: Recipe, run: RunDirectory, shelf: Shelf, chain: Sequence[Prefix]) -> bool:
    """Prepares the run directory; True where the run goes on from a checkpoint: its own or, where that is further, a shared one."""
    from ibllm_core.training.checkpoints import newest

    for prefix in sorted((prefix for prefix in chain if prefix in shelf), key=lambda prefix: -prefix.step):
        if prefix.step <= _step(run):
            break
        _clear(run)
        shelf.start(prefix, recipe, run)
        if newest(run.checkpoints)[0] is not None:
            return True
        # Damaged: nobody else is to start from it.
        shelf.drop(prefix)
        _clear(run)
    if _step(run) > 0 and newest(run.checkpoints)[0] is not None and _readable(run):
        return True
    _clear(run)
    return False


def _clear(run: RunDirectory) -> None:
    """Removes what a run directory holds, but for the lock, which this process holds."""
    for path in run.content():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _readable(run: RunDirectory) -> bool:
    try:
        return bool(run.info())
    except UserError:
        return False


if __name__ == "__main__":
    sys.exit(main())
