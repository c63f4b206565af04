"""What may be turned, and what was, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ibllm_core.recipe.words import written

if TYPE_CHECKING:
    from rich.table import Table

    from .state import State


def tables(state: State) -> Iterator[Table | str]:
    """Numbers by the table of the recipe that they stand in; what was turned; what waits."""
    from rich.markup import escape
    from rich.table import Table

    trains = "trains" if state.trains else "does not train now"
    yield escape(f"{state.path} {trains}: step {state.step}, stage {state.stage}")
    numbers = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("may be turned", "now", "range", "follows"):
        numbers.add_column(title, overflow="fold")
    for one in state.numbers:
        value = f"{one.now:.6g}" if isinstance(one.now, float) else written(one.now)
        numbers.add_row(escape(one.key), value, one.range, escape(one.follows))
    yield numbers
    if state.turned:
        turned = Table(box=None, pad_edge=False, header_style="dim")
        for title in ("turned", "from step", "in stage", "by"):
            turned.add_column(title, overflow="fold")
        for knob in state.turned:
            stage = f"{knob.stage}, step {knob.stage_step}" if knob.stage else "not reached"
            turned.add_row(escape(", ".join(knob.set)), str(knob.step), stage, escape(knob.by))
        yield turned
    for text in state.waiting:
        yield escape(f"waits: {text}")
