"""What the files hold, row by row: for a fingerprint that changes with their content and with nothing else. Torch-free."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from ibllm.plugin import content_hashes
from ibllm_files.config import FilesConfig
from ibllm_files.loading import load


def contents(config: FilesConfig) -> list[tuple[str, str]]:
    """(name, hash) of every record that is used, split by split. The name is the image's path within the data, or the caption where there are no images.

    No image is decoded; one whose bytes are known as they stand is not read again.
    """
    root, items = Path(config.path).expanduser(), load(config).items
    within, found = f"{root if root.is_dir() else root.parent}{os.sep}", []
    sources = list(dict.fromkeys(record.image for some in items.values() for record, _ in some if record.image is not None))
    hashes = dict(zip(sources, content_hashes(sources), strict=True))  # as they are now, whatever was loaded when
    for split, some in items.items():
        for record, _ in some:
            # Of texts, not of paths: there may be a hundred thousand.
            name = record.caption if record.image is None else record.image.name.removeprefix(within).replace(os.sep, "/")
            content = hashes[record.image] if record.image is not None else ""
            said = [record.caption, record.language or config.language, split, record.question, record.answer, content]
            found.append((name, hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]))
    return found
