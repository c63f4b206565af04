"""Tables of one JSON object a line, or of an array of them. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from ibllm.plugin import UserError
from ibllm_files.cells import COLUMNS, Table
from ibllm_files.records import Record, place_of
from ibllm_files.sources import Source
from ibllm_files.text import lines


def jsonl_records(source: Source, table: Table) -> Iterator[Record]:
    """The records of a file with an object in each line."""
    for line, text in enumerate(lines(source), 1):
        if not text.strip():
            continue
        try:
            cells = json.loads(text.rstrip("\r\n"))
        except (json.JSONDecodeError, RecursionError) as error:
            said = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "too deep"
            table.reading.problems.add(f"{table.name}:{line}", f"not JSON ({said})")
            continue
        yield from object_records(table, [(line, cells)])


def object_records(table: Table, rows: Iterable[tuple[int, Any]]) -> Iterator[Record]:
    """The records of numbered objects. The first says which columns there are; keys of later ones may differ."""
    for number, cells in rows:
        place = place_of(table.name, number, table.line)
        if not isinstance(cells, dict):
            table.reading.problems.add(place, f"expected an object with {' and '.join(table.reading.held)}")
            continue
        try:
            columns = table.header(number, tuple(cells), whole=False)
        except UserError as error:
            table.reading.problems.add(place, str(error).removeprefix(f"{place}: "))
            for name in (name for name in COLUMNS if not isinstance(cells.get(name, ""), str | list | None)):
                table.reading.problems.add(place, f"{name} must be a text")
            continue
        yield from table.record(number, {ours: cells[theirs] for theirs, ours in columns.items()})
