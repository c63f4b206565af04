"""Tables of cells: CSV and TSV, as spreadsheets and papers write them. Torch-free."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator

from ibllm.plugin import UserError
from ibllm_files.cells import Table
from ibllm_files.records import Record
from ibllm_files.sources import Source
from ibllm_files.text import lines

#: What stands between the cells of a .csv, the likeliest first.
_DELIMITERS = (",", ";", "\t", "|")
_QUOTES = """a quotation mark at the beginning of a cell opens one that ends with the next; within it, it is written twice ("")"""
_EMPTY = ("row without a filled cell", "rows without a filled cell")


def csv_records(source: Source, table: Table, tabs: bool) -> Iterator[Record]:
    """The records of a CSV, or of a TSV (`tabs`). Raises `UserError` where the header is wrong or a row cannot be told from the next."""
    first, delimiter, begin = _first(source, table, tabs)
    if first is None:
        held = " and ".join(table.reading.held)
        raise UserError(f"{table.name}:1: the table is empty; expected a header line with {held}")
    header = [cell.strip() for cell in first]
    columns, width = table.header(begin, header), len(header)
    places = [(header.index(theirs), ours) for theirs, ours in columns.items()]
    rows = _unquoted(source, width) if tabs and _even(source, width) else _quoted(source, table, delimiter)
    for line, cells in rows:
        if line <= begin or not cells:
            continue
        if len(cells) != width:
            table.reading.problems.add(f"{table.name}:{line}", f"{len(cells)} cells where the header has {width}")
        elif width > 1 and not any(cell.strip() for cell in cells):
            table.reading.passed.add(*_EMPTY, f"{table.name}:{line}")
        else:
            yield from table.record(line, {ours: cells[place] for place, ours in places})


def _first(source: Source, table: Table, tabs: bool) -> tuple[list[str] | None, str, int]:
    """The header, what stands between cells, and the header's line. A spreadsheet's first line may be ``sep=;``."""
    said = None
    for line, text in enumerate(lines(source), 1):
        if line == 1 and (found := re.fullmatch(r"sep=(.)[\r\n]*", text, re.IGNORECASE)):
            said = found.group(1)
        elif text.strip():
            choices = ("\t",) if tabs else (said,) if said else _DELIMITERS
            best = max(choices, key=lambda one: _fits(text, one, table, line))
            return _cells(text, best), best, line
    return None, ",", 1


def _fits(header: str, delimiter: str, table: Table, line: int) -> tuple[bool, int]:
    """How well a header goes with a delimiter: it has the columns that are asked for; it has several."""
    cells = [cell.strip() for cell in _cells(header, delimiter)]
    wanted = [getattr(table.reading.config.columns, ours) or ours for ours in table.reading.held]
    plain = {cell.lower() for cell in cells}
    return all(name.lower() in plain for name in wanted), len(cells)


def _cells(header: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([header], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return header.rstrip("\r\n").split(delimiter)


def _even(source: Source, width: int) -> bool:
    """True where every line of a TSV has all cells: then a line is a row, and quotation marks end none."""
    return all(text.count("\t") == width - 1 for text in lines(source) if text.strip())


def _unquoted(source: Source, width: int) -> Iterator[tuple[int, list[str]]]:
    """Rows that are lines; a cell is taken out of quotation marks where a program has put it into them."""
    for line, text in enumerate(lines(source), 1):
        if text.strip():
            yield line, [_bare(cell) for cell in text.rstrip("\r\n").split("\t")]


def _bare(cell: str) -> str:
    inside = cell[1:-1]
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inside.replace('""', "")
    return inside.replace('""', '"') if quoted else cell


def _quoted(source: Source, table: Table, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows whose cells may hold line ends within quotation marks, each with the line that it begins in."""
    reader = csv.reader(lines(source), delimiter=delimiter, strict=True)
    line = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{table.name}:{line}: not a row of a table ({error}); {_QUOTES}") from None
        yield line, cells
        line = reader.line_num + 1
