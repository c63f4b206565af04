"""Which format a path has, and its records. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ibllm.plugin import UserError
from ibllm_files.cells import Table
from ibllm_files.csv_table import csv_records
from ibllm_files.folder import folder_records, suffix, text_lines
from ibllm_files.jsonl import jsonl_records
from ibllm_files.records import Reading, Record
from ibllm_files.sources import FileSource, Source
from ibllm_files.trees import DiskTree, Tree

Reader = Callable[[Source, Table], Iterator[Record]]

#: Ending of a table's name → what reads it.
TABLES: dict[str, Reader] = {
    ".csv": lambda source, table: csv_records(source, table, tabs=False),
    ".tsv": lambda source, table: csv_records(source, table, tabs=True),
    ".jsonl": jsonl_records,
    ".ndjson": jsonl_records,
}


def read_records(path: Path, reading: Reading) -> list[Record]:
    """The records of a table, a folder or an archive that can be used; the others go to the problems of `reading`.

    Raises:
        UserError: nothing can be read.
    """
    if path.is_dir():
        return list(tree_records(DiskTree(path, reading.config.outside), reading))
    if not path.exists():
        raise UserError(f"files: there is no file or folder {path}")
    tree, source = DiskTree(path.parent, reading.config.outside), FileSource(path)
    if kind_of(path.name) == ".txt" and reading.held == ("caption",):
        return list(text_lines(source))
    return list(table_records(source, tree, reading))


def kind_of(name: str) -> str:
    """The ending of a file's name, in small letters, without that of packed text."""
    return suffix(name.lower().removesuffix(".gz"))


def table_records(source: Source, tree: Tree, reading: Reading) -> Iterator[Record]:
    """The records of a table whose images are in `tree`."""
    reader = TABLES.get(kind_of(source.name))
    if reader is None:
        raise UserError(f"{source.name}: expected a table ending in {', '.join(TABLES)}, or a folder")
    return reader(source, Table(source.name, tree, reading))


def tree_records(tree: Tree, reading: Reading) -> Iterator[Record]:
    """The records of a folder."""
    return folder_records(tree, list(tree.files(reading.passed)), reading)
