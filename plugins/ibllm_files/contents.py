"""What the files hold, row by row: for a fingerprint that changes with their content and with nothing else. Torch-free."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from ibllm.plugin import content_hashes
from ibllm_files.config import FilesConfig
from ibllm_files.formats import read_records
from ibllm_files.records import Problems, Reading
from ibllm_files.sources import FileSource


def contents(config: FilesConfig) -> list[tuple[str, str]]:
    """(name, hash) of every row that can be read, in order. The name is the image's path within the data, or the caption where there are no images.

    No image is decoded; one whose bytes are known as they stand is not read again.
    """
    root = Path(config.path).expanduser()
    rows, base = read_records(root, Reading(config=config, problems=Problems(root))), root if root.is_dir() else root.parent
    sources = list(dict.fromkeys(row.image for row in rows if row.image is not None))
    hashes = dict(zip(sources, content_hashes(sources), strict=True))
    found = []
    for row in rows:
        name = row.caption
        if isinstance(row.image, FileSource):
            name = (row.image.path.relative_to(base) if row.image.path.is_relative_to(base) else row.image.path).as_posix()
        elif row.image is not None:
            name = row.image.name.removeprefix(f"{base}{os.sep}")
        said = [row.caption, row.language, row.split, row.question, row.answer, hashes[row.image] if row.image is not None else ""]
        found.append((name, hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]))
    return found
