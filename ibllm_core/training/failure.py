"""How a run ends that does not end well: whose fault it is, and what is written down about it."""

from __future__ import annotations

import contextlib
import os
from importlib import import_module

from ..errors import UserError
from ..host.attribution import communicating, explained, traceback_of
from ..recipe.schema import Recipe
from ..runs.directory import RunDirectory, write_text
from .loop import Interrupted
from .session import Session

_RANKS = "error-rank-*.txt"


class PeerFailed(UserError):
    """Another process of the run is gone."""


def explain(error: BaseException, recipe: Recipe, directory: RunDirectory) -> BaseException:
    """The error as a user should see it: of the component that raised it, or of the other process that failed first."""
    if isinstance(error, Exception) and communicating(error):
        told = PeerFailed(_peers(directory) or "another process of this run is gone; what it wrote says why")
        told.__cause__ = error
        return told
    return explained(error, recipe)


def _peers(directory: RunDirectory) -> str:
    """What the first process that left a file says."""
    for path in sorted(directory.path.glob(_RANKS)):
        with contextlib.suppress(OSError):
            return path.read_text(encoding="utf-8").partition("\n")[0]
    return ""


def record_failure(error: BaseException, session: Session) -> None:
    """What there is so far is worth a page; the error that ends the run is worth more than one of writing it."""
    stopped = isinstance(error, Interrupted | KeyboardInterrupt)
    directory = session.directory
    with contextlib.suppress(OSError):
        if not session.ranks.first:
            if not stopped and not isinstance(error, PeerFailed) and directory.path.is_dir():
                head = f"rank {session.ranks.rank}: {' '.join(str(error).split())}"
                write_text(directory / f"error-rank-{session.ranks.rank}.txt", f"{head}\n\n{traceback_of(error)}")
        elif session.log is not None:
            said = {} if stopped else {"error": f"{type(error).__name__}: {error}", "traceback": traceback_of(error)}
            directory.update(
                **{"status": "interrupted" if stopped else "failed", "error": "", "traceback": ""} | said,
                timings=session.timings(),
                hooks=session.hooks.record(),
            )
            import_module("ibllm_report").render(directory.path)


def forget_failures(directory: RunDirectory) -> None:
    """Removes what processes of an earlier attempt left."""
    for path in directory.path.glob(_RANKS):
        with contextlib.suppress(OSError):
            os.unlink(path)
