"""Tables of cells: CSV and TSV. Torch-free."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ibllm.plugin import UserError
from ibllm_files.records import COLUMNS, Problems, hint, text_of


def csv_rows(path: Path, problems: Problems, held: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Line and cells of every row that is whole."""
    reader = csv.reader(text_of(path).splitlines(keepends=True), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    header: list[str] = []
    line = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise UserError(f"{path}:{line}: not a row of a table ({error})") from None
        if cells and not header:
            header = [cell.strip().lower() for cell in cells]
            _check_columns(f"{path}:{line}", header, held)
        elif cells and len(cells) != len(header):
            problems.add(f"{path}:{line}", f"{len(cells)} cells where the header has {len(header)}")
        elif cells:
            yield line, dict(zip(header, cells, strict=True))
        line = reader.line_num + 1
    if not header:
        raise UserError(f"{path}:1: the table is empty; expected a header line with {' and '.join(held)}")


def _check_columns(place: str, header: list[str], held: Sequence[str]) -> None:
    for name in header:
        if name not in COLUMNS:
            raise UserError(f"{place}: unknown column {name!r}{hint(name, COLUMNS)}")
    for name in held:
        if header.count(name) != 1:
            raise UserError(f"{place}: expected one column {name!r} in the header, found {header.count(name)}")
    if len(set(header)) < len(header):
        raise UserError(f"{place}: a column stands twice in the header")
