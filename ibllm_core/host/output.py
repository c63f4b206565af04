"""Standard output is for what ibllm says; what components print goes to standard error. What can be written nowhere is lost, and nothing more.

Torch-free.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import IO, Any

#: Standard output or error → why some of what was written to it is lost.
lost: dict[str, str] = {}


class _Enduring(io.FileIO):
    """A descriptor of a standard stream that is written to as far as that can be done."""

    def __init__(self, handle: int, label: str) -> None:
        super().__init__(handle, "w", closefd=False)
        self.label = label

    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:  # another program has made the terminal one that does not wait
                select.select([], [self], [])
            return written
        except OSError as error:
            lost.setdefault(self.label, error.strerror or str(error))
            return memoryview(data).nbytes


def enduring(handle: int, label: str, encoding: str | None = None) -> IO[str]:
    """A text stream that never fails: characters that its encoding lacks are escaped; what cannot be written is lost, and `lost` says why."""
    raw = io.BufferedWriter(_Enduring(handle, label))
    return io.TextIOWrapper(raw, encoding=encoding or "utf-8", errors="backslashreplace", line_buffering=True)


@contextlib.contextmanager
def stdout_to_stderr(name: str = "") -> Iterator[IO[str]]:
    """What is printed within, in whichever thread and by child processes too, goes to standard error; yields what standard output was.

    Args:
        name: put before each line that Python code prints.
    """
    with contextlib.ExitStack() as stack:
        ours: IO[str] = sys.stdout
        with contextlib.suppress(OSError, ValueError):  # no such descriptor: nothing can be written to it either
            sys.stdout.flush()
            kept = os.dup(1)
            stack.callback(os.close, kept)
            os.dup2(2, 1)
            stack.callback(os.dup2, kept, 1)
            if sys.stdout.fileno() == 1:
                ours = stack.enter_context(enduring(kept, "standard output", sys.stdout.encoding))
        said: Any = stack.enter_context(_Named(name)) if name else sys.stderr
        stack.enter_context(contextlib.redirect_stdout(said))
        yield ours


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
