"""Standard output is for what ibllm says; what components print goes to standard error. Torch-free."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, Any


@contextlib.contextmanager
def stdout_to_stderr(said: Any = None) -> Iterator[IO[str]]:
    """What is printed within, in whichever thread and by child processes too, goes to standard error; yields what standard output was.

    Args:
        said: a file instead of standard error, for what Python code prints.
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
                encoding, errors = sys.stdout.encoding, sys.stdout.errors
                ours = stack.enter_context(open(kept, "w", buffering=1, encoding=encoding, errors=errors, closefd=False))
        stack.enter_context(contextlib.redirect_stdout(said or sys.stderr))
        yield ours
