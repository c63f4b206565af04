"""What is met while items are made, by whichever process makes them. Torch-free."""

from __future__ import annotations

import json
import os
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path


class Incidents:
    """Sentences of several kinds in a file that this process and its workers append to; it goes with the object that made it."""

    def __init__(self) -> None:
        file, name = tempfile.mkstemp(prefix="ibllm-incidents-")
        os.close(file)
        self._path, self._seen = Path(name), set[tuple[str, str]]()
        weakref.finalize(self, _removed, self._path, os.getpid())

    def add(self, kind: str, text: str, once: str = "") -> None:
        """Adds a sentence; one of equal kind and `once` (by default the sentence itself) is added once a process."""
        if (kind, once or text) in self._seen:
            return
        self._seen.add((kind, once or text))
        line = json.dumps([kind, once or text, text]) + "\n"
        with suppress(OSError), self._path.open("a", encoding="utf-8") as file:  # a full disk ends no training
            file.write(line)

    def of(self, kind: str) -> list[str]:
        """The sentences of a kind so far, of all processes, each once, in the order in which they were met."""
        found: dict[str, str] = {}
        with suppress(OSError):
            for line in self._path.read_text(encoding="utf-8").split("\n")[:-1]:
                what, once, text = json.loads(line)
                if what == kind:
                    found.setdefault(once, text)
        return list(found.values())


def _removed(path: Path, owner: int) -> None:
    if os.getpid() == owner:
        with suppress(OSError):
            path.unlink()
