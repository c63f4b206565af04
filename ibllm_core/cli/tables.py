"""The table of results for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from ..runs import figures


def results_table(results: Mapping[str, Any], items: int | Mapping[str, int] | None = None) -> Table:
    """A run's flat results as a table: figures as rows, splits as columns, with 95 % intervals where n is known.

    Args:
        results: ``split/figure`` → value, as in results.json.
        items: the number of items where `results` has no ``split/items``: of every split, or split → number.
    """
    found = figures.table(results, items)
    counts = {
        split: next((row.cells[split].n for row in found.rows if row.meaning.counted == "items" and split in row.cells), None)
        for split in found.splits
    }
    cautions = {row.meaning.label: row.meaning.caution for row in found.rows if row.meaning.caution}
    out = Table(
        title="Results",
        title_justify="left",
        caption="; ".join(f"{label} is {text}" for label, text in cautions.items()) or None,
        caption_justify="left",
    )
    out.add_column("figure")
    for split in found.splits:
        n = counts[split]
        out.add_column(Text(split or "all") if n is None else Text(f"{split or 'all'} (n = {n})"), justify="right")
    for direction, rows in found.groups():
        out.add_section()
        out.add_row(Text(direction, style="bold"))
        for row in rows:
            cells = (row.cells.get(split) for split in found.splits)
            out.add_row(Text(f"  {row.meaning.full_label}"), *(_shown(cell) for cell in cells))
    return out


def records_table(records: Mapping[str, str]) -> Table:
    """How figures came about: metric → what `figures.told` says of it."""
    out = Table(title="How they were measured", title_justify="left", show_header=False)
    for name, how in records.items():
        out.add_row(Text(name), Text(how, style="dim"))
    return out


def _shown(cell: figures.Cell | None) -> Text:
    if cell is None:
        return Text("—", style="dim")
    text = Text(cell.text, style="bold")
    if cell.interval:
        text.append(f"  {cell.interval}", style="not bold dim")
    return text
