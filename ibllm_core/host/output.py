"""Standard output is for what ibllm says; what components print goes to standard error. Torch-free."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def stdout_to_stderr(name: str = "") -> Iterator[None]:
    """What is printed within, in whichever thread and by child processes too, goes to standard error.

    Args:
        name: put before each line that Python code prints.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ValueError):  # no such descriptor: nothing can be written to it either
            sys.stdout.flush()
            kept = os.dup(1)
            stack.callback(os.close, kept)
            os.dup2(2, 1)
            stack.callback(os.dup2, kept, 1)
        said: Any = stack.enter_context(_Named(name)) if name else sys.stderr
        stack.enter_context(contextlib.redirect_stdout(said))
        yield


class _Named:
    """Standard error, each line behind a name; at the end a line that was left open is ended."""

    def __init__(self, name: str) -> None:
        self._head, self._fresh = f"[{name}] ", True

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            sys.stderr.write(self._head + line if self._fresh else line)
            self._fresh = line.endswith("\n")
        return len(text)

    def __enter__(self) -> _Named:
        return self

    def __exit__(self, *_: object) -> None:
        self.write("" if self._fresh else "\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)
