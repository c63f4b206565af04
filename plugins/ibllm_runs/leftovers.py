"""What runs, studies and caches have left over that nothing needs."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import attrs

from ibllm.hashes import cache_folder
from ibllm_core.errors import UserError, system_error
from ibllm_core.runs.directory import RunDirectory
from ibllm_report.files import read_object

from .holding import holder
from .survey import runs_below

#: Seconds for which nobody has touched a temporary folder or file that is taken for left over.
_DAY = 24 * 3600
#: Hidden names of what is written before it has its own.
_PARTIAL = re.compile(r"\..*\.(partial|part)")
#: What our processes call their temporary folders.
_TEMPORARY = ("ibllm-rehearsal-", "ibllm-probe-", "ibllm-profile-", "ibllm-check-", "ibllm-ask-")


@attrs.frozen(kw_only=True)
class Leftover:
    """A file or folder that may go, why, and its bytes on the disk."""

    kind: str
    path: Path
    why: str
    bytes: int

    def remove(self) -> None:
        """Takes it away. Raises `UserError` where it cannot be."""
        try:
            if self.path.is_dir() and not self.path.is_symlink():
                shutil.rmtree(self.path)
            else:
                self.path.unlink(missing_ok=True)
        except OSError as error:
            raise (system_error(error) or UserError(f"{self.path} cannot be removed: {error}")) from error


def left_over(folder: Path, kinds: Iterable[str] = ()) -> list[Leftover]:
    """What is left over in a folder of runs and studies, in the cache and among temporary files, by kind; of some `kinds` only where there are any."""
    wanted = tuple(kinds) or tuple(KINDS)
    return [one for kind in wanted for one in _SEARCHES[kind](folder)]


def _partials(folder: Path) -> Iterator[Leftover]:
    """Half-written files and folders where no process is at work."""
    busy = {run for run in _runs(folder) if holder(RunDirectory(run)) is not None}
    for path in _walk(folder):
        if _PARTIAL.fullmatch(path.name) and not busy.intersection(path.parents) and not _written_by_the_living(path.name):
            yield _left("partial", path, "it was being written when its process ended")


def _written_by_the_living(name: str) -> bool:
    """Names of half-written things hold the number of the process that writes them; one of another machine is judged by its run's lock."""
    number = re.search(r"\.(\d+)(?:-\d+)?\.partial$", name)
    return number is not None and Path(f"/proc/{number[1]}").exists()


def _damaged(folder: Path) -> Iterator[Leftover]:
    """Checkpoints that were set aside in runs that are done."""
    for run in _runs(folder):
        if read_object(run / "run.json").get("status") == "done":
            for path in sorted((run / "checkpoints").glob("damaged-*")):
                yield _left("damaged", path, "it was set aside as damaged, and the run is done")


def _stages(folder: Path) -> Iterator[Leftover]:
    """Stages that a study keeps for its runs, and none of its runs begins with any more."""
    for study in sorted({path.parent for path in _walk(folder) if path.name == "shared" and (path.parent / "plan.json").is_file()}):
        plan = read_object(study / "plan.json")
        needed = plan.get("stages")
        if not isinstance(needed, list) or _is_worked_on(study):
            continue
        for path in sorted((study / "shared").iterdir()):
            if path.is_dir() and not path.name.startswith(".") and path.name not in needed:
                yield _left("stages", path, f"no run of the study {plan.get('name', study.name)!r} as it was planned last begins with it")


def _is_worked_on(study: Path) -> bool:
    return any(holder(RunDirectory(run)) is not None for run in _runs(study))


def _caches(folder: Path) -> Iterator[Leftover]:
    """What can be made again: decoded images, indexes, hashes."""
    cache = cache_folder()
    for path in sorted(cache.iterdir()) if cache.is_dir() else ():
        yield _left("caches", path, "it is made again where it is needed")


def _temporary(folder: Path) -> Iterator[Leftover]:
    """Temporary folders of our processes that nobody has touched for a day."""
    for path in sorted(Path(tempfile.gettempdir()).glob("ibllm-*")):
        if not path.name.startswith(_TEMPORARY) or path.is_symlink():
            continue
        try:
            inside = [path, *(_walk(path) if path.is_dir() else ())]
            if path.stat().st_uid == os.getuid() and time.time() - max(one.lstat().st_mtime for one in inside) > _DAY:
                yield _left("temporary", path, "nobody has touched it for a day")
        except OSError:
            continue


def _walk(folder: Path) -> Iterator[Path]:
    """All files and folders below, without following links; what cannot be read is passed over."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in sorted([*folders, *files]))


def _runs(folder: Path) -> list[Path]:
    return list(runs_below(folder)) if folder.is_dir() else []


def _left(kind: str, path: Path, why: str) -> Leftover:
    size = 0
    for one in (path, *(_walk(path) if path.is_dir() and not path.is_symlink() else ())):
        try:
            found = one.lstat()
        except OSError:
            continue
        # What has a second name elsewhere, as the checkpoints that runs of a study share, frees nothing.
        if found.st_nlink == 1 or one.is_dir():
            size += getattr(found, "st_blocks", 0) * 512 or found.st_size
    return Leftover(kind=kind, path=path, why=why, bytes=size)


_SEARCHES: Mapping[str, Callable[[Path], Iterator[Leftover]]] = {
    "partial": _partials,
    "damaged": _damaged,
    "stages": _stages,
    "caches": _caches,
    "temporary": _temporary,
}
#: Kind → what is meant.
KINDS: Mapping[str, str] = {
    "partial": "half-written files and folders of processes that were killed",
    "damaged": "checkpoints of finished runs that were set aside as damaged",
    "stages": "stages that a study keeps and none of its runs begins with any more",
    "caches": "decoded images, indexes and hashes, which are made again",
    "temporary": "temporary folders that nobody has touched for a day",
}
