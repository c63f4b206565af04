"""The primary figure's table for the terminal. Torch-free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import wording
from .analysis import Analysis
from .tables import Table as Shown
from .tables import primary_tables

if TYPE_CHECKING:
    from rich.table import Table

#: Columns below which intervals stand under their means.
_NARROW = 120


def tables_of(analysis: Analysis, width: int) -> list[Table]:
    """What the study decides by, without effect sizes, which stand in the files."""
    found = primary_tables(analysis)
    first = f"{analysis.findings.name}: {wording.headline(analysis)}"
    return [_drawn(table, first if number == 0 else table.title, width) for number, table in enumerate(found)]


def _drawn(shown: Shown, titled: str, width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def cell(text: str, before: str = "[") -> Text:
        plain = text
        for bracket in before if width < _NARROW else "":
            plain = plain.replace(f" {bracket}", f"\n{bracket}")
        return Text(plain)

    out = Table(title=Text(titled), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    columns = len(shown.header) - shown.sizes
    for number, text in enumerate(shown.header[:columns]):
        out.add_column(cell(text, "[("), justify="left" if number == 0 else "right", overflow="fold", no_wrap=number in (1, 2, 3))
    for row in shown.rows:
        out.add_row(Text(row[0]), *map(cell, row[1:columns]))
    return out
