"""Ctrl-C, SIGTERM and SIGHUP, as requests to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: What asks: a person, a scheduler, a terminal that is gone (not on Windows).
STOPS = tuple(number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None)


def heeded() -> tuple[signal.Signals, ...]:
    """Those of `STOPS` that this process was not told to overlook, as nohup tells it of SIGHUP."""
    return tuple(number for number in STOPS if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN)


@contextmanager
def on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Within, `stop` is called instead of the process being interrupted; it may raise.

    Every Ctrl-C calls it, and the first of the other signals: schedulers and shells send theirs to a process several times, which is no more than asking.
    """
    asked = False

    def asks(number: int, _: object) -> None:
        nonlocal asked
        again, asked = asked, True
        if number == signal.SIGINT or not again:
            stop()

    before = {number: signal.signal(number, asks) for number in heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
