"""Where the windows of a world lie, what each is told, and which of its pixels count. Torch-free.

Shapes: k windows, h w a window's pixels; the world's rows and columns of pixels are called height and width, and its columns go around.

A model draws no more than its canvas, so a world is drawn in *windows* that overlap. How much each of them counts at each of its pixels says which of
them draws what.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from .composer import Thing
from .script import Entry, Script

#: More windows, or more pixels in all of them, are refused: a slip in a number would otherwise fill the memory.
MOST_WINDOWS, MOST_PIXELS = 4096, 2**26

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@attrs.frozen
class Box:
    """A rectangle of the world, in pixels; it may go around."""

    left: int
    top: int
    width: int
    height: int


@attrs.frozen
class Placed:
    """A thing of a world: what it is, the cell of the world that it fills, the line of the script that says so."""

    thing: Thing
    phrase: str
    line: int
    box: Box


@attrs.frozen
class Window:
    """A canvas laid on the world.

    Attributes:
        left, top: its corner in pixels, ``0 <= left <`` the world's width.
        caption: what it is told.
        told: numbers of the things in its cells that it is told; of a sequence without cells, of the caption.
        spare: cells of things that it is told only because a caption needs some; that part of it does not count.
    """

    left: int
    top: int
    caption: str
    told: tuple[int, ...]
    spare: tuple[int, ...] = ()


@attrs.frozen
class Plan:
    """A world before it is drawn.

    Attributes:
        height, width: of the world in pixels.
        canvas: height and width of a window.
        windows: k of them.
        weights: (k h w) how much each pixel counts; 0 where the window has no say.
        regions: numbers of the windows that are described, each thing in at least one.
        things: what was asked for, where captions name cells.
        rounded: how many places were moved to the grid of what the decoder works on.
    """

    height: int
    width: int
    canvas: tuple[int, int]
    windows: Sequence[Window]
    weights: F64
    regions: Sequence[int]
    things: Sequence[Placed] = ()
    rounded: int = 0

    def pixels(self) -> I64:
        """(k h w) the place in the world's pixels, in reading order, of every pixel of every window."""
        h, w = self.canvas
        top, left = (np.array([getattr(window, side) for window in self.windows])[:, None, None] for side in ("top", "left"))
        return (top + np.arange(h)[:, None]) * self.width + (left + np.arange(w)) % self.width


def ramp(size: int, overlap: int) -> F64:
    """(size) weights that rise to 1 over `overlap` pixels and fall at the end; two windows that overlap by so much sum to 1."""
    steps = (np.arange(size) + 0.5) / max(overlap, 1)
    return np.minimum(np.minimum(steps, steps[::-1]), 1.0)


class World:
    """What both kinds of worlds share: size, places, and whether all of it is drawn.

    Args:
        cell: height and width in pixels of what the script counts in.
        unit: windows lie on multiples of so many pixels.
    """

    def __init__(self, script: Script, canvas: tuple[int, int], cell: tuple[int, int], unit: int) -> None:
        self.script, self.canvas, self.cell, self.unit = script, canvas, cell, unit
        self.most = min(MOST_WINDOWS, max(MOST_PIXELS // (canvas[0] * canvas[1]), 4))

    def snapped(self, place: float, cell: int) -> int:
        """Cells → pixels, a multiple of `unit`."""
        return round(place * cell / self.unit) * self.unit

    def rounded(self) -> int:
        """How many lines' places are not where the script has them."""
        moved = [
            [abs(self.snapped(p, c) - p * c) > 1e-6 for p, c in zip(e.place, self.cell[::-1], strict=True)]
            for e in self.script.entries
            if e.place
        ]
        return sum(map(any, moved))

    def size(self, columns: float, rows: float) -> tuple[int, int]:
        """Height and width in pixels of a world whose things need so many columns and rows; what the script says goes first."""
        script, (h, w), (ch, cw) = self.script, self.canvas, self.cell
        for name, given, least, length, canvas in (("columns", script.columns, columns, cw, w), ("rows", script.rows, rows, ch, h)):
            if given is not None and given * length < canvas:
                raise script.wrong([(0, f"{name} = {given:g}: expected at least {canvas / length:g}, a canvas of the model")])
            if max(given or 0, least) * length > self.most * canvas:
                raise script.wrong([(0, f"{name} = {max(given or 0, least):g}: expected at most {self.most * canvas / length:g}")])
        across = script.columns if script.columns is not None else max(columns, w / cw)
        down = script.rows if script.rows is not None else max(rows, h / ch)
        if across * cw * down * ch > self.most * h * w:
            raise script.wrong([(0, f"a world of {across:g} columns and {down:g} rows; expected at most {self.most} canvases in all")])
        return self.snapped(down, ch), self.snapped(across, cw)

    def beyond(self, entries: Sequence[Entry], height: int, width: int, need: tuple[int, int]) -> Iterator[tuple[int, str]]:
        """The lines whose places are outside the world; columns go around, but are counted from 0."""
        for entry in entries:
            assert entry.place is not None
            column, row = (self.snapped(place, cell) for place, cell in zip(entry.place, self.cell[::-1], strict=True))
            if not 0 <= column < width:
                yield (
                    entry.line,
                    f"column {entry.place[0]:g}: expected at least 0 and less than {width / self.cell[1]:g}, the world's columns",
                )
            if not 0 <= row <= height - need[0]:
                yield entry.line, f"row {entry.place[1]:g}: expected at least 0 and at most {(height - need[0]) / self.cell[0]:g}"

    def covered(self, plan: Plan) -> Plan:
        """The plan, if every pixel is in a window that counts there. Raises `UserError` with the columns of those that are not."""
        total = np.bincount(plan.pixels().ravel(), plan.weights.ravel(), minlength=plan.height * plan.width).reshape(
            plan.height, plan.width
        )
        empty = np.flatnonzero((total <= 0).any(axis=0))
        if len(empty):
            named = f"{empty[0] / self.cell[1]:g} to {(empty[-1] + 1) / self.cell[1]:g}"
            raise self.script.wrong([(0, f"nothing is said of some place in columns {named}; put something there")])
        return plan
