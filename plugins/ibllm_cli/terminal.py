"""What a terminal is told: standard streams that never fail, names that do not steer it, commands that can be pasted. Torch-free.

What can be written nowhere is lost, and nothing more.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import shlex
import sys
import unicodedata
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
def standard_output() -> Iterator[IO[str]]:
    """What standard output is now, to write to whatever takes its place meanwhile."""
    with contextlib.ExitStack() as stack:
        ours: IO[str] = sys.stdout
        with contextlib.suppress(OSError, ValueError):
            if sys.stdout.fileno() == 1:
                kept = os.dup(1)
                stack.callback(os.close, kept)
                ours = stack.enter_context(enduring(kept, "standard output", sys.stdout.encoding))
        yield ours


def endure() -> None:
    """Makes this process's standard output and error `enduring`; the null device stands in for what is closed."""
    for handle, name, label in ((0, "stdin", ""), (1, "stdout", "standard output"), (2, "stderr", "standard error")):
        stream: Any = getattr(sys, name)
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            if label:
                lost[label] = "it is closed"
        with contextlib.suppress(OSError, ValueError):
            if label and (stream is None or stream.fileno() == handle):
                setattr(sys, name, enduring(handle, label, stream and stream.encoding))


def is_shown(character: str) -> bool:
    """False for what steers a terminal or the direction of writing instead of being seen; joiners within emoji and words are seen."""
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in "\u200c\u200d" or character >= "\U000e0020"


def shown(text: object, lines: bool = False) -> str:
    """The text with what steers a terminal escaped (a name may hold anything), line ends too unless it has `lines`."""
    return "".join(c if is_shown(c) or (lines and c == "\n") else c.encode("unicode_escape").decode() for c in str(text))


def typed(*words: object) -> str:
    """A command as it can be pasted into a shell, whatever its words hold."""
    return " ".join(shlex.quote(word) if all(map(is_shown, word)) else f"$'{_escaped(word)}'" for word in map(str, words))


def _escaped(word: str) -> str:
    return "".join({"\\": r"\\", "'": r"\'"}.get(c, c) if is_shown(c) else f"\\u{ord(c):04x}" for c in word)
