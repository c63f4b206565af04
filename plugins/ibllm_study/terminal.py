"""The primary figure's table for the terminal. Torch-free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import wording
from .analysis import Analysis
from .tables import primary_header, primary_rows

if TYPE_CHECKING:
    from rich.table import Table

#: Columns below which intervals stand under their means.
_NARROW = 120


def primary_table(analysis: Analysis, width: int) -> Table:
    """One row an arm: mean and difference with intervals, p-values. Effect sizes stand in the files."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def cell(text: str, before: str = "[") -> Text:
        plain = text
        for bracket in before if width < _NARROW else "":
            plain = plain.replace(f" {bracket}", f"\n{bracket}")
        return Text(plain)

    title = Text(f"{analysis.findings.name}: {wording.headline(analysis)}")
    out = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    header, *rows = (primary_header(analysis), *primary_rows(analysis))
    for number, text in enumerate(header[:-2]):
        out.add_column(cell(text, "[("), justify="left" if number == 0 else "right", overflow="fold", no_wrap=number in (1, 2, 3))
    for row in rows:
        out.add_row(Text(row[0]), *map(cell, row[1:-2]))
    return out
