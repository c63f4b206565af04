"""What is unpacked once, since its pieces cannot be reached one by one where it lies. Torch-free."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ibllm.plugin import UserError, cache_folder
from ibllm_files.sources import shown

#: Bytes of the disk that are never taken.
_SPARE = 1 << 30
#: What a run tells of it, one and several.
UNPACKED = (
    "file that is unpacked into the cache, once (ibllm data clean removes it)",
    "files that are unpacked into the cache, once (ibllm data clean removes them)",
)


def unpacked(key: str, ending: str, name: str, write: Callable[[Path, Callable[[], None]], None]) -> Path:
    """The unpacked form of something, in the cache; made where it is not there yet.

    Args:
        key: of the thing as it stands.
        ending: of the file's name.
        name: of the thing, for messages.
        write: writes a file; between pieces it calls what it is given, which raises where the disk is nearly full.

    Raises:
        UserError: there is no room.
    """
    folder = cache_folder() / "unpacked"
    path = folder / f"{hashlib.sha256(os.fsencode(key)).hexdigest()[:32]}{ending}"
    if path.is_file():
        return path
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")

    def room() -> None:
        if shutil.disk_usage(folder).free < _SPARE:
            raise UserError(f"{shown(name)}: there is no room in {folder} to unpack it; IBLLM_CACHE names another place")

    try:
        folder.mkdir(parents=True, exist_ok=True)
        room()
        write(partial, room)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path
