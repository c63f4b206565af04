"""A run is a directory: what it holds."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError, system_error, writing

if TYPE_CHECKING:
    from ..recipe.schema import Recipe

#: What a run that goes on, and who reads it, relies on in run.json.
_KINDS = {
    dict: ("provenance", "versions", "hooks", "hardware", "item_flops", "sources", "timings"),
    list: ("stages", "notices", "accepted_code", "hardware_before"),
}
#: The file that is locked while a process trains in a run directory.
LOCK = ".lock"
#: Bytes that no JSON file of a run has.
_LARGEST = 1 << 24


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` to write a file or a folder at. At the end it is on the disk and takes the place of `path`; whatever fails leaves nothing
    of it behind, and an `OSError` says `path`."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        with writing(path):
            yield partial
            for written in (*partial.rglob("*"), partial):
                sync(written)
            if partial.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            os.replace(partial, path)
    except BaseException:
        remove(partial)
        raise


def remove(path: Path) -> None:
    """Takes a file or a folder away, as far as that can be done."""
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()


def sync(path: Path) -> None:
    """A file, or a folder's list of names, is on the disk afterwards."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Writes a whole file or nothing, whoever else writes it at the same time and whenever the power fails."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes a whole JSON file or nothing."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def parsed(path: Path) -> Any:
    """What a JSON file holds. Raises `OSError`, and `UserError` where it is no JSON, or larger or deeper than any of ours: reading it takes bounded memory."""
    if path.stat().st_size > _LARGEST or not path.is_file():
        raise UserError(f"{path.name} is larger than {_LARGEST} bytes, or no file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except UnicodeEncodeError:  # the path's own
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path.name} cannot be read: {error}") from error


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is no such file. Raises `UserError` where it is damaged or cannot be read."""
    try:
        found = parsed(path)
    except FileNotFoundError:
        return None
    except (OSError, UserError) as error:
        raise system_error(error) or UserError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged: it holds {type(found).__name__}, not a JSON object")
    return found


class Held(UserError):
    """Another process trains in the directory."""


class RunDirectory:
    """Paths and records of one run.

    ``recipe.toml`` (resolved), ``run.json`` (status, versions, provenance, hardware, seeds), ``results.json`` (one flat table),
    ``metrics.jsonl``, ``checkpoints/``, ``model/``, ``samples/``, ``panels/``, ``tensorboard/``, ``report.html``; where another process than the first failed,
    ``error-rank-N.txt``; ``.lock`` and, while a process trains in it, ``.lock.json``, which says which.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe, self.results, self.report = path / "recipe.toml", path / "results.json", path / "report.html"
        self.checkpoints, self.model, self.samples = path / "checkpoints", path / "model", path / "samples"
        self._holder = path / f"{LOCK}.json"

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, no other process trains in the directory, which is made where there is none; the lock goes with this process, however it ends.

        Raises:
            Held: another process does; says which.
            UserError: the directory cannot be written, or its file system has no locks.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self / LOCK, timeout=0, is_singleton=True)  # who holds it may take it once more
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            write_json(self._holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        except Timeout:
            who = "another process"
            with suppress(UserError, KeyError):
                who = "process {pid} on {host} since {since}".format(**read_json(self._holder) or {})
            raise Held(f"{self.path} is being trained in by {who}; wait for it, stop it, or choose another place (--run-dir DIR)") from None
        except (OSError, NotImplementedError) as error:
            why = getattr(error, "strerror", None) or error
            raise UserError(f"cannot write or lock the run directory {self.path}: {why}; choose another place (--run-dir DIR)") from error
        try:
            yield
        finally:
            if lock.lock_counter == 1:
                self._holder.unlink(missing_ok=True)
            lock.release()

    def content(self) -> list[Path]:
        """What lies in the directory beside its lock, and beside what a process that was killed has left half-written."""
        found = self.path.iterdir() if self.path.is_dir() else ()
        return [path for path in found if not path.name.startswith(LOCK) and not path.name.endswith(".partial")]

    def require_new(self) -> None:
        """Raises `UserError` where the directory holds something already: a run is never overwritten."""
        if self.path.is_file() or self.content():
            raise UserError(
                f"{self.path} exists already and is left as it is; go on with it (--resume), or choose another place (--run-dir DIR)"
            )

    def create(self, recipe: Recipe) -> None:
        """Makes the directory. Raises `UserError` where it holds something already or cannot be written."""
        self.require_new()
        try:
            with writing(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                write_text(self.recipe, recipe.source)  # first: who is killed from here on has a run to go on with
                self.checkpoints.mkdir(exist_ok=True)
        except OSError as error:
            self.withdraw()
            raise system_error(error) or error from error

    def withdraw(self) -> None:
        """Takes away what `create` made, of a run that could not begin: the next try finds the directory as it was."""
        for path in (self.checkpoints, self.recipe, self / "run.json"):
            remove(path)

    def info(self) -> dict[str, Any]:
        """What run.json says; empty where there is none. Raises `UserError` where it is damaged."""
        found = read_json(self / "run.json") or {}
        for kind, names in _KINDS.items():
            if wrong := [name for name in names if name in found and not isinstance(found[name], kind)]:
                raise UserError(f"{self / 'run.json'} is damaged: {', '.join(wrong)} is no JSON {'object' if kind is dict else 'array'}")
        return found

    def update(self, **values: Any) -> None:
        """Writes values into run.json."""
        write_json(self / "run.json", self.info() | values)
