"""A world of things in places, drawn by a model whose captions name cells. Torch-free. Shapes: k windows, h w a window's pixels.

The captions of windows are made from the things that lie in their cells. A thing that lies otherwise in a window, across its edge say, is left to the
windows in whose cells it lies, and where it is the other window does not count. So what no window could draw is drawn whole, by those in which it is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import attrs
import numpy as np

from .composer import Composer
from .plan import F64, Box, Placed, Plan, Window, World, ramp
from .script import Mistakes, Script, quoted

#: How far from a thing, in cells, a window that is not told of it counts in full again: a step in the weights would show.
SOFT = 0.5
#: Top and left of a window.
Corner = tuple[int, int]


class CellsWorld(World):
    """A world of things in places, whose windows are told what lies in their cells."""

    def __init__(self, script: Script, canvas: tuple[int, int], composer: Composer, unit: int) -> None:
        assert composer.grid is not None
        self.composer, self.grid = composer, composer.grid
        super().__init__(script, canvas, (canvas[0] // self.grid[0], canvas[1] // self.grid[1]), unit)

    def plan(self) -> Plan:
        script = self.script
        things, owners, self.tongue = self.placed() if script.placed else self.sequence()
        corners = self.corners(things)
        cells = {corner: self.inside(things, corner) for corner in corners}
        told = self.shared(things, cells, owners)
        windows = [self.window(things, corner, told[corner]) for corner in corners]
        plan = Plan(self.height, self.width, self.canvas, windows, self.weights(things, windows), (), things, self.rounded())
        plan = self.covered(_pruned(plan))
        own = {(window.top, window.left): k for k, window in enumerate(plan.windows)}
        return attrs.evolve(plan, regions=_regions(plan, [own[corner] for corner in dict.fromkeys(owners.values())]))

    def placed(self) -> tuple[list[Placed], dict[int, Corner], str]:
        """Things in places; none has a window of its own."""
        script, (ch, cw) = self.script, self.cell
        entries = [entry for entry in script.entries if entry.place is not None]
        mistakes, things = list[tuple[int, str]](), []
        for entry in entries:
            assert entry.place is not None
            thing = self.composer.thing(entry.text)
            if thing is None:
                mistakes.append(
                    (entry.line, f"{quoted(entry.text)} is nothing that these data have; expected for example {self.composer.example!r}")
                )
            box = Box(self.snapped(entry.place[0], cw), self.snapped(entry.place[1], ch), cw, ch)
            things.append(Placed(thing, entry.text, entry.line, box))
        try:
            self.height, self.width = self.size(
                math.ceil(max(e.place[0] for e in entries if e.place) + 1), math.ceil(max(e.place[1] for e in entries if e.place) + 1)
            )
        except Mistakes as error:
            raise script.wrong([*mistakes, *error.mistakes]) from None
        mistakes += self.beyond(entries, self.height, self.width, self.cell)
        mistakes += self.too_near(things)
        if mistakes or script.mistakes:
            wrong = {line for line, _ in mistakes}
            try:
                self.corners([placed for placed in things if placed.line not in wrong])
            except Mistakes as error:
                mistakes += error.mistakes
            raise script.wrong(mistakes)
        return things, {}, self.composer.language(entries[0].text)

    def sequence(self) -> tuple[list[Placed], dict[int, Corner], str]:
        """The things of captions side by side, each with its caption's window."""
        script, (rows, columns), (ch, cw) = self.script, self.grid, self.cell
        self.height, self.width = rows * ch, columns * cw * len(script.entries)
        things: list[Placed] = []
        owners: dict[int, Corner] = {}
        mistakes = []
        if script.columns is not None or script.rows is not None:
            mistakes.append((0, "columns and rows are for lines with places; a sequence is as long as its captions"))
        for k, entry in enumerate(script.entries):
            found = self.composer.things(entry.text)
            if found is None:
                mistakes.append((entry.line, f"{quoted(entry.text)} is no caption of these data, which are like {self.example()!r}"))
            for cell, thing in (found or {}).items():
                row, column = divmod(cell, columns)
                owners[len(things)] = (0, k * columns * cw)
                things.append(Placed(thing, entry.text, entry.line, Box((k * columns + column) * cw, row * ch, cw, ch)))
        if mistakes:
            raise script.wrong(mistakes)
        return things, owners, self.composer.language(script.entries[0].text)

    def example(self) -> str:
        thing = self.composer.thing(self.composer.example)
        return self.composer.write({0: thing}, self.composer.language(self.composer.example))

    def too_near(self, things: Sequence[Placed]) -> Iterator[tuple[int, str]]:
        """Things whose cells overlap."""
        (ch, cw), at = self.cell, np.array([(placed.box.left, placed.box.top) for placed in things])
        for k in range(1, len(things)):
            across = (at[:k, 0] - at[k, 0]) % self.width
            near = np.flatnonzero((np.minimum(across, self.width - across) < cw) & (np.abs(at[:k, 1] - at[k, 1]) < ch))
            if len(near):
                yield things[k].line, f"nearer than a cell to line {things[near[0]].line}"

    def corners(self, things: Sequence[Placed]) -> list[Corner]:
        """Top and left of every window: one a cell, all around, and those in whose cells the other things lie."""
        (rows, columns), (ch, cw) = self.grid, self.cell
        lowest = self.height - self.canvas[0]
        tops, lefts = {*range(0, lowest + 1, ch), lowest}, range(0, self.width, cw)
        if len(tops) * len(lefts) > self.most:
            raise self.too_many(len(tops) * len(lefts))
        found = set(itertools.product(tops, lefts))
        mistakes = []
        for placed in things:
            above = [placed.box.top - i * ch for i in range(rows) if 0 <= placed.box.top - i * ch <= lowest]
            if not above:
                mistakes.append(
                    (placed.line, f"row {placed.box.top / ch:g} is in no window's cell; expected a whole row, or a world of more rows")
                )
            found |= {(top, (placed.box.left - j * cw) % self.width) for top in above for j in range(columns)}
        if mistakes:
            raise self.script.wrong(mistakes)
        if len(found) > self.most:
            raise self.too_many(len(found))
        return sorted(found)

    def too_many(self, windows: int) -> Mistakes:
        return self.script.wrong([(0, f"{windows} windows; a world of at most {self.most} can be drawn")])

    def inside(self, things: Sequence[Placed], corner: Corner) -> dict[int, int]:
        """Number of a thing that lies in a cell of the window → the cell."""
        (rows, columns), (ch, cw), found = self.grid, self.cell, {}
        for k, placed in enumerate(things):
            row, up = divmod(placed.box.top - corner[0], ch)
            column, over = divmod((placed.box.left - corner[1]) % self.width, cw)
            if not up and not over and 0 <= row < rows and column < columns:
                found[k] = row * columns + column
        return found

    def shared(
        self, things: Sequence[Placed], cells: Mapping[Corner, Mapping[int, int]], owners: Mapping[int, Corner]
    ) -> dict[Corner, dict[int, int]]:
        """Which things each window is told: no more than a caption has, and each thing told to one at least."""
        most, corners = self.composer.most, list(cells)
        chosen = _matched(
            len(things), [(k, n) for n, corner in enumerate(corners) for k in cells[corner]], len(corners), most, owners, corners
        )
        if left := [k for k in range(len(things)) if k not in chosen]:
            told = f"no window has room for it: captions have at most {most} things"
            raise self.script.wrong([(things[k].line, told) for k in left])
        shared: dict[Corner, dict[int, int]] = {corner: {} for corner in corners}
        for k, corner in chosen.items():
            shared[corner][k] = cells[corner][k]
        for corner in corners:
            for k, cell in cells[corner].items():
                if len(shared[corner]) < most:
                    shared[corner][k] = cell
        return shared

    def window(self, things: Sequence[Placed], corner: Corner, told: Mapping[int, int]) -> Window:
        """The window with its caption. Spare things are put into its first columns."""
        rows, columns = self.grid
        said = {cell: things[k].thing for k, cell in told.items()}
        free = [row * columns + column for column in range(columns) for row in range(rows) if row * columns + column not in said]
        spare = tuple(free[: max(self.composer.least - len(said), 0)])
        said.update({cell: things[n % len(things)].thing for n, cell in enumerate(spare)})
        return Window(corner[1], corner[0], self.composer.write(said, self.tongue), tuple(sorted(told)), spare)

    def weights(self, things: Sequence[Placed], windows: Sequence[Window]) -> F64:
        """(k h w) high in the middle of a window; 0 where things are that it is not told, and from there on rising again."""
        (h, w), (_, columns), (ch, cw) = self.canvas, self.grid, self.cell
        down, across = ramp(h, h - ch if self.height > h else 0), ramp(w, w - cw)
        weights = np.broadcast_to(down[:, None] * across, (len(windows), h, w)).copy()
        for window, weight in zip(windows, weights, strict=True):
            others = [placed.box for k, placed in enumerate(things) if k not in window.told]
            boxes = [(box.top - window.top, (box.left - window.left) % self.width) for box in others]
            boxes += [(top, left - self.width) for top, left in boxes]
            boxes += [(cell // columns * ch, cell % columns * cw) for cell in window.spare]
            for top, left in boxes:
                if -ch * (1 + SOFT) < top < h + ch and -cw * (1 + SOFT) < left < w + cw:
                    weight *= np.maximum(_beyond(top, ch, h)[:, None], _beyond(left, cw, w))
        return weights


def _beyond(start: int, length: int, size: int) -> F64:
    """(size) 0 from `start` on for `length` pixels, rising to 1 on either side over `SOFT` times as many."""
    at = np.arange(size)
    far = np.maximum(np.maximum(start - at, at - (start + length - 1)), 0)
    return np.minimum(far / (1 + SOFT * length), 1.0)


def _matched(
    things: int,
    pairs: Sequence[tuple[int, int]],
    windows: int,
    most: int,
    owners: Mapping[int, Corner],
    corners: Sequence[Corner],
) -> dict[int, Corner]:
    """Thing → a window for it, none with more than `most`: its own where it has one, otherwise by a maximum matching."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if owners:
        return dict(owners)
    row, window = np.array(pairs).reshape(-1, 2).T
    slots = (window[:, None] * most + np.arange(most)).ravel()
    graph = csr_array((np.ones(len(slots), dtype=np.int8), (row.repeat(most), slots)), shape=(things, windows * most))
    found = maximum_bipartite_matching(graph, perm_type="column")
    return {k: corners[slot // most] for k, slot in enumerate(found.tolist()) if slot >= 0}


def _pruned(plan: Plan) -> Plan:
    """Without windows that hold nothing and are needed nowhere."""
    pixels, count = plan.pixels(), np.zeros(plan.height * plan.width, dtype=bool)
    kept = [k for k, window in enumerate(plan.windows) if window.told]
    count[pixels[kept][plan.weights[kept] > 0]] = True
    for k, window in enumerate(plan.windows):
        mine = pixels[k][plan.weights[k] > 0]
        if not window.told and not count[mine].all():
            kept.append(k)
            count[mine] = True
    kept.sort()
    return attrs.evolve(plan, windows=[plan.windows[k] for k in kept], weights=plan.weights[kept])


def _regions(plan: Plan, own: Sequence[int]) -> list[int]:
    """Windows that tell of all things, few and from left to right: first those that captions have as their own."""
    chosen = list(own)
    left = set(range(len(plan.things))) - {k for n in chosen for k in plan.windows[n].told}
    while left:
        best = max(range(len(plan.windows)), key=lambda n: (len(left.intersection(plan.windows[n].told)), -n))
        chosen.append(best)
        left -= set(plan.windows[best].told)
    return sorted(chosen, key=lambda n: (plan.windows[n].left, plan.windows[n].top))
