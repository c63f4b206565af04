"""Whether a process trains in a run directory, seen from outside."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from ibllm_core.runs.directory import LOCK, RunDirectory
from ibllm_report.files import read_object


def holder(run: RunDirectory) -> Mapping[str, Any] | None:
    """Who trains in the directory now (``pid``, ``host``, ``since``); None for nobody. A process that was killed leaves its name there, but no lock."""
    said = read_object(run / f"{LOCK}.json")
    if not said or (said.get("host") == socket.gethostname() and not _alive(said.get("pid"))):
        return None
    return said if _locked(run) else None


def _alive(process: object) -> bool:
    if not isinstance(process, int) or process <= 0:
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def _locked(run: RunDirectory) -> bool:
    """Asked only where a process has the number that is written down: another one may have got it since."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return True
    try:
        handle = os.open(run / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
