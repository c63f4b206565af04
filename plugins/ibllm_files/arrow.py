"""Parquet and Arrow files, and the folders in which Hugging Face `datasets` keeps them. Needs the package pyarrow. Torch-free."""

from __future__ import annotations

import io
import json
import os
import posixpath
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from ibllm.plugin import UserError
from ibllm_files.cells import SPLIT_WORDS, Table
from ibllm_files.records import Reading, Record
from ibllm_files.sources import FileSource, Source, shown
from ibllm_files.trees import Tree
from ibllm_files.unpacked import UNPACKED, unpacked

#: Endings of names.
PARQUET, ARROW = (".parquet",), (".arrow", ".feather", ".ipc")
#: What `save_to_disk` writes beside the data.
STATE, SPLITS = "state.json", "dataset_dict.json"
#: Rows whose cells are turned into Python's values at once.
_ROWS = 1000
#: Bytes of images in a Parquet file that each process simply keeps.
_LITTLE = 1 << 22
#: One reader at a time in each process: a lock that another thread holds while a process forks is never opened in the new one.
_LOCKS: dict[int, threading.Lock] = {}


def library() -> Any:
    """The package pyarrow. Raises `UserError` where it is not installed."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise UserError("Parquet and Arrow files need the package pyarrow: pip install 'ibllm[data]'") from None
    return pyarrow


@attrs.frozen
class CellSource(Source):
    """The bytes of an image in a cell of a Parquet or Arrow file; `number` is the row's, from 1."""

    file: Source
    column: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.file.name}, row {self.number}"

    @property
    def key(self) -> str:
        path, size, time = self.file.key.rsplit("|", 2)
        return f"{path}#{self.column}#{self.number}|{size}|{time}"

    def open(self) -> BinaryIO:
        try:
            with _LOCKS.setdefault(os.getpid(), threading.Lock()):
                cell = _column(self.file, self.column, os.getpid())[self.number - 1]
            buffer = (cell["bytes"] if library().types.is_struct(cell.type) else cell).as_buffer()
        except (library().ArrowException, UserError, IndexError) as error:
            raise OSError(f"{self.name}: {error}") from error
        if buffer is None:
            raise OSError(f"{self.name}: no bytes")
        return io.BytesIO(buffer)


@lru_cache(maxsize=8)
def _file(source: Source, process: int) -> Any:
    """An open Parquet file, or an Arrow file's table; each process opens its own, since places in files are not to be shared."""
    arrow = library()

    def where() -> Any:
        return arrow.memory_map(str(source.path)) if isinstance(source, FileSource) else arrow.BufferReader(_all(source))

    try:
        if source.name.lower().endswith(PARQUET):
            return arrow.parquet.ParquetFile(where())
        try:
            return arrow.ipc.open_file(where()).read_all()
        except arrow.ArrowInvalid:
            return arrow.ipc.open_stream(where()).read_all()
    except (arrow.ArrowException, OSError) as error:
        raise UserError(f"{shown(source.name)}: cannot be read ({str(error).splitlines()[0]})") from None


def _all(source: Source) -> bytes:
    with source.open() as file:
        return file.read()


@lru_cache(maxsize=64)
def _column(source: Source, column: str, process: int) -> Any:
    """The cells of one column. Those of a large Parquet file are reached through an Arrow file in the cache: Parquet unpacks many rows for one."""
    arrow, file = library(), _file(source, process)
    if not source.name.lower().endswith(PARQUET):
        return file.column(column)
    groups = range(file.num_row_groups)
    if not _large(file, column):
        return file.read(columns=[column], use_threads=False).column(column)

    def write(to: Path, room: Callable[[], None]) -> None:
        schema = file.schema_arrow.empty_table().select([column]).schema
        with arrow.OSFile(str(to), "wb") as out, arrow.ipc.new_file(out, schema) as writer:
            for group in groups:
                room()
                writer.write_table(file.read_row_group(group, columns=[column], use_threads=False))

    path = unpacked(f"{source.key}#{column}", ".arrow", source.name, write)
    return arrow.ipc.open_file(arrow.memory_map(str(path))).read_all().column(column)


def _large(file: Any, column: str) -> bool:
    """Whether a column of a Parquet file is too large to be kept in memory."""
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    leaves = [group.column(number) for group in groups for number in range(group.num_columns)]
    return sum(one.total_uncompressed_size for one in leaves if one.path_in_schema.split(".")[0] == column) > _LITTLE


def arrow_records(source: Source, table: Table) -> Iterator[Record]:
    """The records of a Parquet or Arrow file. Images are bytes, as `datasets` keeps them, or paths relative to the file.

    Raises:
        UserError: it cannot be read, or columns are missing.
    """
    table.line, table.strict = "row", False
    file = _file(source, os.getpid())
    parquet = source.name.lower().endswith(PARQUET)
    schema = file.schema_arrow if parquet else file.schema
    columns = table.header(1, schema.names)
    image = next((theirs for theirs, ours in columns.items() if ours == "image"), "") if "image" in table.reading.held else ""
    if parquet and image and _large(file, image):
        table.reading.passed.add(*UNPACKED, posixpath.basename(source.name))
    begin = 1
    for group in range(file.num_row_groups) if parquet else (-1,):
        count = file.metadata.row_group(group).num_rows if parquet else file.num_rows
        given = _images(source, image, group, begin, count, schema) if image else [None] * count
        wanted = [name for name, ours in columns.items() if name != image and ours != "image"]
        cells = file.read_row_group(group, columns=wanted, use_threads=False) if parquet else file.select(wanted)
        for start in range(0, count, _ROWS):
            some = {columns[name]: cells.column(name).slice(start, _ROWS).to_pylist() for name in wanted}
            for place in range(min(_ROWS, count - start)):
                row = {ours: values[place] for ours, values in some.items()}
                yield from table.record(begin + start + place, {"image": given[start + place], **row})
        begin += count


def _images(source: Source, column: str, group: int, begin: int, count: int, schema: Any) -> Sequence[Any]:
    """Of each row of a group the image's bytes (a source), its path, or nothing; the bytes themselves are not read where they need not be."""
    arrow, kind = library(), schema.field(column).type
    here = [CellSource(source, column, begin + row) for row in range(count)]
    if arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind):
        return here
    file = _file(source, os.getpid())
    if not arrow.types.is_struct(kind):
        cells = file.read_row_group(group, columns=[column], use_threads=False).column(column) if group >= 0 else file.column(column)
        return [cell.as_py() for cell in cells] if arrow.types.is_string(kind) or arrow.types.is_large_string(kind) else [0] * count
    names = [kind.field(number).name for number in range(kind.num_fields)]
    if "bytes" not in names:
        return [0] * count
    if group >= 0 and _full(file.metadata.row_group(group), f"{column}.bytes"):
        return here
    cells = file.read_row_group(group, columns=[column], use_threads=False).column(column) if group >= 0 else file.column(column)
    found: list[Any] = []
    for row, cell in enumerate(cells):
        inside = cell if cell.is_valid else {}
        if inside and inside["bytes"].is_valid:
            found.append(here[row])
        else:
            found.append(inside["path"].as_py() if inside and "path" in names else None)
    return found


def _full(group: Any, leaf: str) -> bool:
    """Whether a column of a row group is known to have no empty cell."""
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema == leaf:
            known = column.statistics
            return known is not None and known.has_null_count and known.null_count == 0
    return False


def shards(files: Mapping[str, Source]) -> list[tuple[str, str]]:
    """The Parquet and Arrow files of a folder, each with the split that its name or its folder says.

    A folder of `save_to_disk` says itself which files are its data; others that lie there are none of them.

    Args:
        files: of the folder, by name.
    """
    states = [name for name in files if posixpath.basename(name) == STATE]
    found: list[tuple[str, str]] = []
    for state in states:
        folder = posixpath.dirname(state)
        found += [(posixpath.join(folder, name), split_in(folder)) for name in _data_files(files[state])]
    if states:
        return found
    return [(name, split_in(name)) for name in files if name.lower().endswith(PARQUET + ARROW)]


def _data_files(state: Source) -> list[str]:
    try:
        return [str(one["filename"]) for one in json.loads(_all(state))["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{shown(state.name)}: does not say which files the data are in ({error})") from None


def split_in(name: str) -> str:
    """The split that a name says, ``train-00000-of-00002.parquet`` or ``dev/part.parquet``; empty where it says none."""
    for part in reversed(name.lower().split("/")):
        for word in re.split(r"[^a-z]+", part):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return ""


def shard_records(
    tree: Tree, files: Mapping[str, Source], named: Sequence[tuple[str, str]], reading: Reading, images: Tree | None
) -> Iterator[Record]:
    """The records of a folder's Parquet and Arrow files; what they name by paths is in the folder of each, or in `images`."""
    splits = list(dict.fromkeys(split for _, split in named))
    if "train" not in splits or "" in splits:
        named = [(name, "") for name, _ in named]
    for name, split in named:
        if name not in files:
            raise UserError(f"{tree.name}: there is no file {shown(name)}, which {STATE} names")
        table = Table(files[name].name, images or tree.below(posixpath.dirname(name)), reading, split=split)
        yield from arrow_records(files[name], table)
