"""Which format a path has, and its records. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ibllm.plugin import UserError
from ibllm_files.csv_table import csv_rows
from ibllm_files.folder import folder_records, text_lines
from ibllm_files.jsonl import jsonl_rows
from ibllm_files.records import Problems, Record, record_of


def read_records(path: Path, problems: Problems, held: Sequence[str] = ("image", "caption")) -> list[Record]:
    """The rows of a table or a folder that are right; the others go to `problems`. Raises `UserError` where nothing can be read.

    Of image and caption only what is `held` is asked for and kept.
    """
    if path.is_dir():
        return list(folder_records(path, problems, held))
    if not path.exists():
        raise UserError(f"files: there is no file or folder {path}")
    if path.suffix.lower() == ".txt" and held == ("caption",):
        return list(text_lines(path))
    readers = {".csv": csv_rows, ".tsv": csv_rows, ".jsonl": jsonl_rows}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: expected a table ending in {', '.join(readers)}, or a folder")
    records = []
    for line, cells in readers[path.suffix.lower()](path, problems, held):
        record = record_of(path, f"{path}:{line}", cells, problems, held)
        if record is not None:
            records.append(record)
    return records
