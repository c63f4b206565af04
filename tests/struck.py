"""A command that is struck at a moment of its own choosing: killed, or refused by the system. ``struck.py MOMENT FOLDER WORD …``

MOMENT is ``WHAT@WHERE:NUMBER``. WHAT is ``KILL``, or the name of an error of the system (``ENOSPC``, ``ESTALE``, …), which one operation is then refused
with (``ENOSPC+``: this one and all that follow). WHERE is ``touch``, any operation that changes what lies in FOLDER, ``rename/NAME``, one that gives
something in it this name, or the dotted name of a function, which is struck when it is called. NUMBER counts from 1. ``count`` strikes nobody: it writes
down what was touched, an operation a line, beside FOLDER, with ``.touches`` after its name.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Events of Python's audit that change a folder; ``open`` does where it is for writing. os.fsync and the writing of tensors have none: they are wrapped.
_CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.truncate"}

#: Errors of a file system without room, which still removes what is asked.
_WANT_ROOM = {"ENOSPC", "EDQUOT", "EFBIG"}


class Strike:
    """Strikes once `number` operations on what lies in `folder` have been made; with the number 0 never."""

    def __init__(self, what: str, folder: Path, number: int) -> None:
        self.what, self.folder, self.number = what.removesuffix("+"), os.fspath(folder), number
        self.lasting, self.count, self.touched = what.endswith("+"), 0, list[str]()

    def here(self, name: str, path: object) -> None:
        """An operation is about to be made."""
        if not isinstance(path, str | bytes | os.PathLike) or not os.fsdecode(path).startswith(self.folder):
            return
        self.count += 1
        self.touched.append(f"{name} {os.fsdecode(path)}")
        due = self.count == self.number or (self.lasting and self.number and self.count > self.number)
        if due and (self.what not in _WANT_ROOM or name not in ("os.remove", "os.rmdir")):
            self.now(os.fsdecode(path))

    def now(self, path: str) -> None:
        if self.what == "KILL":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, self.what)
        raise OSError(number, os.strerror(number), path)

    def audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Python's audit hook."""
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.here("open", arguments[0])
        elif event in _CHANGES:
            self.here(event, arguments[0])

    def renamed(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The audit hook where only new names count, all of them `folder`."""
        if event == "os.rename":
            self.here(event, arguments[1])

    def watch(self) -> None:
        """From here on."""
        from ibllm_core.runs import model_folder

        sync, save = os.fsync, model_folder.save_file

        def synced(handle: int) -> None:
            self.here("fsync", os.readlink(f"/proc/self/fd/{handle}"))
            sync(handle)

        def saved(tensors: Any, path: Path) -> None:
            save(tensors, path)
            with open(path, "r+b") as file:  # struck here, it is half-written
                size = os.fstat(file.fileno()).st_size
                if self.count == self.number:
                    os.ftruncate(file.fileno(), size // 2)
            self.here("written", path)

        os.fsync, model_folder.save_file = synced, saved
        sys.addaudithook(self.audited)


def arm(moment: str, folder: Path) -> Callable[[], object]:
    """This process will be struck. What is given is called once the command has ended, if it has."""
    if moment == "count":
        strike = Strike("KILL", folder, 0)
        strike.watch()
        return lambda: Path(f"{folder}.touches").write_text("\n".join(strike.touched), encoding="utf-8")
    what, _, rest = moment.partition("@")
    where, _, number = rest.partition(":")
    strike = Strike(what, folder, int(number))
    if where == "touch":
        strike.watch()
        return int
    if where.startswith("rename/"):
        strike.folder = os.path.join(folder, where.removeprefix("rename/"))
        sys.addaudithook(strike.renamed)
        return int
    module, _, name = where.rpartition(".")
    owner = importlib.import_module(module)
    setattr(owner, name, _struck(getattr(owner, name), strike))
    return int


def _struck(real: Callable[..., Any], strike: Strike) -> Callable[..., Any]:
    def called(*arguments: Any, **named: Any) -> Any:
        strike.count += 1
        if strike.count == strike.number:
            strike.now(strike.folder)
        return real(*arguments, **named)

    return called


if __name__ == "__main__":
    moment, folder, *words = sys.argv[1:]
    ended = arm(moment, Path(folder))
    from ibllm_cli.main import main

    sys.argv = ["ibllm", *words]
    code = main(words)
    ended()
    sys.exit(code)
