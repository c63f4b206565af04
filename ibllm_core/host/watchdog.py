"""Code that waits for ever is named and left. Torch-free."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from ..errors import UserError

#: Environment variable: seconds that importing one plugin may take; 0 to wait for ever.
TIMEOUT = "IBLLM_IMPORT_TIMEOUT"
#: Seconds, where the variable says nothing: enough for torch, and what it brings, from a slow disk.
DEFAULT = 300.0


class Stuck(BaseException):
    """Raised inside what takes too long. No `Exception`, which a plugin that tries again and again would swallow."""


def patience() -> float:
    """Seconds to wait for one plugin. Raises `UserError` where the environment says something else than a number."""
    said = os.environ.get(TIMEOUT, "").strip()
    try:
        seconds = float(said) if said else DEFAULT
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise UserError(f"{TIMEOUT} = {said!r}: expected a number of seconds, or 0 to wait for ever")
    return seconds


@contextlib.contextmanager
def watch(what: str, remedy: str) -> Iterator[None]:
    """Raises `Stuck` in the block once it has taken `patience` seconds.

    An alarm signal ends whatever runs Python code or waits in a system call. Where that does nothing (code that catches everything, an extension
    module that never returns, no such signal on this system), the process says so after the same time again and exits with 2.
    Outside the main thread there is no such signal either: the message is all there is.

    Args:
        what: the plugin, for the message.
        remedy: what the user can do.
    """
    seconds = patience()
    if seconds == 0:
        yield
        return
    main = threading.current_thread() is threading.main_thread()
    alarmed = main and hasattr(signal, "SIGALRM")
    last = threading.Timer(2 * seconds if alarmed else seconds, _give_up, (what, remedy, 2 * seconds if alarmed else seconds, main))
    last.daemon = True
    last.start()
    try:
        with _alarm(seconds) if alarmed else contextlib.nullcontext():
            yield
    finally:
        last.cancel()


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(_: int, __: FrameType | None) -> None:
        raise Stuck(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, interval)  # whoever waited for an alarm before still gets it
        signal.signal(signal.SIGALRM, before)


def _give_up(what: str, remedy: str, seconds: float, leave: bool) -> None:
    frame = sys._current_frames().get(threading.main_thread().ident or 0) if leave else None
    where = f" (at {frame.f_code.co_filename}:{frame.f_lineno})" if frame else ""
    os.write(2, f"error: {what} is not done after {seconds:g} s and cannot be interrupted{where}; {remedy}\n".encode())
    if leave:
        os._exit(2)
