"""The tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from ibllm_cli.terminal import shown

from .looking import Look
from .tables import tables

#: Records that are left out and shown.
_LEFT_OUT = 20


def renderables(found: Look) -> Iterator[object]:
    """What Rich prints, one after the other."""
    from rich.table import Table
    from rich.text import Text

    for data in found.data:
        about = f"{data.place}: {data.use} ({data.provider}), fingerprint {data.fingerprint}"
        yield Text(shown(about + (f", licence {data.licence}" if data.licence else "")), style="bold")
    for one in tables(found):
        table = Table(title=shown(one.title), title_justify="left", caption=shown(one.about) or None, caption_justify="left")
        for number, head in enumerate(one.header):
            table.add_column(Text(head), justify="right" if number in one.numbers else "left", overflow="fold")
        for row in one.rows:
            table.add_row(*(Text(shown(cell)) for cell in row))
        yield table
        yield ""
    for data in found.data:
        for note in data.notes:
            yield Text(shown(f"note: {note}"))
        for line in data.left_out[:_LEFT_OUT]:
            yield Text(shown(f"left out: {line}"))
        if len(data.left_out) > _LEFT_OUT:
            yield Text(f"left out: … and {len(data.left_out) - _LEFT_OUT:,} more")
