"""Tables of one JSON object a line. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ibllm_files.records import COLUMNS, Problems, hint, text_of


def jsonl_rows(path: Path, problems: Problems, held: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Line and cells of every row that is whole."""
    for line, text in enumerate(text_of(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            cells = json.loads(text)
        except json.JSONDecodeError as error:
            problems.add(f"{path}:{line}", f"not JSON ({error.msg} at column {error.colno})")
            continue
        if not isinstance(cells, dict):
            problems.add(f"{path}:{line}", f"expected an object with {' and '.join(held)}")
            continue
        wrong = [key for key, value in cells.items() if key not in COLUMNS or not isinstance(value, str)]
        for key in wrong:
            problems.add(f"{path}:{line}", f"{key} must be a text" if key in COLUMNS else f"unknown key {key!r}{hint(key, COLUMNS)}")
        if not wrong:
            yield line, cells
