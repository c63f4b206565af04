"""The table of results for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from ibllm.glossary import Glossary

from .results import Cell, table


def results_table(results: Mapping[str, Any], glossary: Glossary) -> Table:
    """A run's flat results as a table: figures as rows, splits as columns, with 95 % intervals where the number of items is known.

    Args:
        results: ``split/figure`` → value, as in results.json.
        glossary: what the figures are called and mean.
    """
    found = table(results, glossary)
    cautions = {row.figure.label: row.figure.caution for row in found.rows if row.figure.caution}
    caption = "; ".join(f"{label} is {text}" for label, text in cautions.items()) or None
    out = Table(title="Results", title_justify="left", caption=caption, caption_justify="left")
    out.add_column("figure")
    for split in found.splits:
        n = found.items.get(split)
        out.add_column(Text((split or "all") + (f" (n = {n})" if n else "")), justify="right")
    for direction, rows in found.groups():
        out.add_section()
        out.add_row(Text(direction, style="bold"))
        for row in rows:
            cells = (row.cells.get(split) for split in found.splits)
            less = ", lower is better" if row.figure.better == "lower" else ""
            out.add_row(Text(f"  {row.figure.full_label}{less}"), *(_shown(cell) for cell in cells))
    return out


def _shown(cell: Cell | None) -> Text:
    if cell is None:
        return Text("—", style="dim")
    return Text.assemble((cell.text, "bold"), (f"  {cell.interval}" if cell.interval else "", "dim"))
