"""The primary figure's table for the terminal. Torch-free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import words
from .analysis import Analysis
from .tables import primary_header, primary_rows

if TYPE_CHECKING:
    from rich.table import Table


def primary_table(analysis: Analysis) -> Table:
    """One row an arm: mean and difference with intervals, p-values or why there are none."""
    from rich.table import Table
    from rich.text import Text

    out = Table(title=Text(f"{analysis.findings.name}: {words.headline(analysis)}"), title_justify="left")
    for number, cell in enumerate(primary_header(analysis)):
        out.add_column(Text(cell), justify="left" if number == 0 else "right", overflow="fold")
    for row in primary_rows(analysis):
        out.add_row(*map(Text, row))
    return out
