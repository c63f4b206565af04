"""Whether a run can write where it is to be kept, before anything is computed for it. Torch-free."""

from __future__ import annotations

from pathlib import Path

from ibllm_core.errors import UserError, system_error, writing
from ibllm_core.runs.directory import LOCK, RunDirectory, remove
from ibllm_core.training.events import Listener, RunStarted


class Place(Listener):
    """Refuses a run whose directory cannot be written, or in which another process trains, and leaves the directory as it was."""

    def on_run_started(self, event: RunStarted) -> None:
        try:
            tried(event.run_directory)
        except (UserError, OSError) as error:
            event.against.append(system_error(error) or error)


def tried(path: Path) -> None:
    """Locks the directory for a moment and writes into it; folders that are made for it are gone afterwards.

    Raises:
        UserError: another process trains in it, or it cannot be locked.
        OSError: it cannot be written; says where.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    locked = (path / LOCK).exists()
    try:
        with RunDirectory(path).held(), writing(path):
            (path / f"{LOCK}.tried").write_bytes(b"ibllm")
    finally:
        remove(path / f"{LOCK}.tried")
        if not locked:
            remove(path / LOCK)
        for folder in made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
