"""A comparison as a table: for the terminal, and as Markdown for the model card. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEADS = (
    "form", "drawing p50 ms", "p99 ms", "a second", "a second in batches", "caption p50 ms", "p99 ms", "a second", "a second in batches",
    "memory MB", "size MB", "change in figures",
)  # fmt: skip


def cells(row: Mapping[str, Any]) -> list[str]:
    """An arm's cells, in the order of `HEADS`; what there is not is a dash."""
    found = [row["name"]]
    for side in ("draw", "caption"):
        times = row[side]
        shown = ("p50", "p99", "a_second", "a_second_batched")
        found += [f"{times[name]:.3g}" if times[name] < 100 else f"{times[name]:.0f}" for name in shown] if times else ["–"] * 4
    found += [f"{row[name] / 1e6:.{digits}f}" if row[name] else "–" for name, digits in (("memory", 0), ("size", 2))]
    return [*found, _changes(row)]


def _changes(row: Mapping[str, Any]) -> str:
    if row["name"] == "eager" or not row["figures"]:
        return "–"
    moved = {name: change for name, change in row["change"].items() if abs(change) >= 5e-4}
    return ", ".join(f"{name} {change:+.3f}" for name, change in moved.items()) or f"none of {len(row['change'])}"


def remarks(result: Mapping[str, Any]) -> list[str]:
    """What is to be said of arms, and how it was measured."""
    said = [f"{row['name']}: {note}" for row in result["arms"] for note in row["notes"]]
    how = (
        f"{result['processor']}, {result['threads']} threads an arm; {result['rounds']} rounds in which arms take turns, {result['calls']} items "
        f"one by one and batches of {result['batch']} in each; memory is the most that an arm's process held"
    )
    figures = f"; figures on {result['items']} items of {result['split']}, captions greedy" if result["items"] else ""
    return [*said, how + figures]


def as_rich(result: Mapping[str, Any]) -> Any:
    """For the terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = [cells(row) for row in result["arms"]]

    def table(columns: Sequence[int]) -> Table:
        made = Table(box=None, pad_edge=False)
        for column in columns:
            left = HEADS[column] in ("form", "change in figures")
            made.add_column(HEADS[column].replace(" ", "\n"), justify="left" if left else "right", overflow="fold")
        for row in rows:
            made.add_row(*(Text(row[column]) for column in columns))
        return made

    # Two, since one would not fit the usual 80 columns.
    return Group(table(range(9)), Text(), table((0, 9, 10, 11)), Text(), *(Text(text, style="dim") for text in remarks(result)))


def as_markdown(result: Mapping[str, Any]) -> str:
    """For files and the model card."""
    lines = ["| " + " | ".join(HEADS) + " |", "| --- " + "| ---: " * (len(HEADS) - 2) + "| --- |"]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in result["arms"]]
    return "\n".join([*lines, "", *(f"- {text}" for text in remarks(result)), ""])
