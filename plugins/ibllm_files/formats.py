"""Which format a path has, and its records. Torch-free."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from ibllm.plugin import UserError
from ibllm_files import arrow
from ibllm_files.archive import is_archive, open_archive
from ibllm_files.cells import SPLIT_WORDS, Table, hint
from ibllm_files.coco import json_records
from ibllm_files.csv_table import csv_records
from ibllm_files.folder import folder_records, suffix, text_lines
from ibllm_files.jsonl import jsonl_records
from ibllm_files.pillow import readable
from ibllm_files.records import Passed, Reading, Record
from ibllm_files.sources import FileSource, Source, shown
from ibllm_files.trees import DiskTree, Tree

Reader = Callable[[Source, Table], Iterator[Record]]

#: Ending of a table's name → what reads it.
TABLES: Mapping[str, Reader] = {
    ".csv": partial(csv_records, tabs=False),
    ".tsv": partial(csv_records, tabs=True),
    ".jsonl": jsonl_records,
    ".ndjson": jsonl_records,
    ".json": json_records,
    **dict.fromkeys((*arrow.PARQUET, *arrow.ARROW), arrow.arrow_records),
}
#: The table of a folder as Hugging Face's `imagefolder` has it.
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def read_records(path: Path, reading: Reading) -> list[Record]:
    """The records of a table, a folder or an archive that can be used; the others go to the problems of `reading`.

    Raises:
        UserError: nothing can be read.
    """
    config = reading.config
    if not path.exists():
        raise UserError(f"files: there is no file or folder {path}")
    if path.is_dir() or is_archive(path.name):
        return list(tree_records(opened(path, reading.passed, config.outside), reading))
    if config.table:
        raise UserError(f"{path}: table = {config.table!r} is a table in a folder or an archive, and this is neither")
    source = FileSource(path)
    if kind_of(path.name) == ".txt" and reading.held == ("caption",):
        return list(text_lines(source))
    return list(table_records(source, DiskTree(path.parent, config.outside), reading))


def opened(path: Path, passed: Passed, outside: bool = False) -> Tree:
    """A folder or an archive."""
    return open_archive(path, passed) if is_archive(path.name) and path.is_file() else DiskTree(path, outside)


def kind_of(name: str) -> str:
    """The ending of a file's name, in small letters, without that of packed text."""
    return suffix(name.lower().removesuffix(".gz"))


def table_records(source: Source, tree: Tree, reading: Reading, split: str = "", strict: bool = True) -> Iterator[Record]:
    """The records of a table whose images are in `tree`, unless the option `images` says where they are."""
    reader = TABLES.get(kind_of(source.name))
    if reader is None:
        raise UserError(f"{source.name}: expected a table ending in {', '.join(TABLES)}, an archive, or a folder")
    return reader(source, Table(source.name, _elsewhere(reading) or tree, reading, strict=strict, split=split))


def _elsewhere(reading: Reading) -> Tree | None:
    """Where the option `images` says that images are."""
    config = reading.config
    return opened(Path(config.images).expanduser(), Passed(), config.outside) if config.images else None


def tree_records(tree: Tree, reading: Reading) -> Iterator[Record]:
    """The records of a folder or an archive: of the table that is named, or that Hugging Face's formats have, or of images with their texts."""
    files = dict(tree.files(reading.passed))
    if reading.config.table:
        return _named(tree, files, reading)
    if metadata := [name for name in files if posixpath.basename(name).lower() in METADATA]:
        return _metadata(tree, files, metadata, reading)
    if named := arrow.shards(files):
        return arrow.shard_records(tree, files, named, reading, _elsewhere(reading))
    tables = [name for name in files if kind_of(name) in TABLES]
    if tables and not isinstance(tree, DiskTree):
        depth = min(name.count("/") for name in tables)
        tables = [name for name in tables if name.count("/") == depth]
        if len(tables) > 1:
            raise UserError(f"{tree.name}: it has several tables, {', '.join(map(shown, tables))}: table = names one")
        return table_records(files[tables[0]], tree.below(posixpath.dirname(tables[0])), reading)
    return folder_records(tree, list(files.items()), reading)


def _named(tree: Tree, files: Mapping[str, Source], reading: Reading) -> Iterator[Record]:
    name = posixpath.normpath(reading.config.table)
    if name not in files:
        tables = [one for one in files if kind_of(one) in TABLES]
        raise UserError(f"{tree.name}: table = {name!r}: there is no such file{hint(name, tables) if tables else ''}")
    return table_records(files[name], tree.below(posixpath.dirname(name)), reading)


def _metadata(tree: Tree, files: Mapping[str, Source], tables: list[str], reading: Reading) -> Iterator[Record]:
    """Tables that lie beside the images they name; each is of the split that its folder is called like."""
    splits = {name: SPLIT_WORDS.get(name.partition("/")[0].lower(), "") if "/" in name else "" for name in tables}
    given = "train" in splits.values() and all(splits.values())
    used: set[str] = set()
    for name in tables:
        records = table_records(
            files[name], tree.below(posixpath.dirname(name)), reading, split=splits[name] if given else "", strict=False
        )
        for record in records:
            if record.image is not None:
                used.add(record.image.name)
            yield record
    for name, source in files.items() if "image" in reading.held else ():
        if suffix(name) in readable() and source.name not in used:
            reading.passed.add("image that no row names", "images that no row names", name)
