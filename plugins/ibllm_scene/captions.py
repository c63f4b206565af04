"""A world of captions, each with a window of its own. Torch-free. Shapes: k windows, h w a window's pixels."""

from __future__ import annotations

import numpy as np

from .plan import Plan, Window, World, ramp
from .script import Script


class CaptionsWorld(World):
    """A world of captions, each with a window of its own."""

    def __init__(self, script: Script, canvas: tuple[int, int], overlap: float, unit: int) -> None:
        super().__init__(script, canvas, canvas, unit)
        self.overlap = round(overlap * canvas[1])

    def plan(self) -> Plan:
        script, (h, w) = self.script, self.canvas
        if len(script.entries) > self.most:
            raise script.wrong([(0, f"{len(script.entries)} captions; a world of at most {self.most} can be drawn")])
        places = self.places()
        height = max(top for _, top in places) + h
        width = (
            places[-1][0] + self.stride if not script.placed else self.size(max(e.place[0] for e in script.entries if e.place) + 1, 1)[1]
        )
        if script.placed:
            height = self.size(1, max(e.place[1] for e in script.entries if e.place) + 1)[0]
            if mistakes := list(self.beyond(script.entries, height, width, (h, w))):
                raise script.wrong(mistakes)
        elif script.columns is not None or script.rows is not None:
            raise script.wrong([(0, "columns and rows are for lines with places; a sequence is as long as its captions")])
        if width < w:
            raise script.wrong([(0, "a world of one caption is smaller than the model's canvas; expected at least two")])
        windows = [
            Window(left % width, top, entry.text, (k,)) for k, (entry, (left, top)) in enumerate(zip(script.entries, places, strict=True))
        ]
        down = ramp(h, self.overlap if height > h else 0)
        weights = np.broadcast_to(down[:, None] * ramp(w, self.overlap), (len(windows), h, w)).copy()
        return self.covered(Plan(height, width, self.canvas, windows, weights, range(len(windows)), rounded=self.rounded()))

    @property
    def stride(self) -> int:
        return max((self.canvas[1] - self.overlap) // self.unit, 1) * self.unit

    def places(self) -> list[tuple[int, int]]:
        """Left and top of every caption's window."""
        if not self.script.placed:
            return [(k * self.stride, 0) for k in range(len(self.script.entries))]
        return [
            (self.snapped(e.place[0], self.canvas[1]), self.snapped(e.place[1], self.canvas[0])) for e in self.script.entries if e.place
        ]
