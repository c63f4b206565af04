"""Times in words and as faces. A time is a number of minutes after twelve, 0 … 719."""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

#: Minutes in one turn of the hour hand.
TURN = 720
_ONES = "twelve one two three four five six seven eight nine ten eleven".split()
_TEENS = "twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
#: Drawn at so many times the size and averaged, which smooths the edges.
_FINER = 4
_GROUND, _FACE, _TICK, _HOUR, _MINUTE = (255, 255, 255), (225, 230, 240), (120, 125, 140), (200, 40, 40), (30, 60, 190)


def words(time: int) -> str:
    """The time as one says it: "seven o'clock", "twenty past seven", "half past seven", "quarter to eight"."""
    hour, minute = divmod(time, 60)
    if minute == 0:
        return f"{_ONES[hour]} o'clock"
    if minute <= 30:
        return f"{_minutes(minute)} past {_ONES[hour]}"
    return f"{_minutes(60 - minute)} to {_ONES[(hour + 1) % 12]}"


def _minutes(number: int) -> str:
    if number in (15, 30):
        return {15: "quarter", 30: "half"}[number]
    if number < 12:
        return _ONES[number]
    return _TEENS[number - 12] if number < 20 else " ".join(["twenty", *([_ONES[number - 20]] if number > 20 else [])])


def face(time: int, size: int) -> npt.NDArray[np.uint8]:
    """(size size 3): a disc with four ticks, a short red hour hand and a long blue minute hand."""
    side = size * _FINER
    picture = Image.new("RGB", (side, side), _GROUND)
    draw = ImageDraw.Draw(picture)

    def at(turn: float, radius: float) -> tuple[float, float]:
        return side / 2 * (1 + radius * math.sin(math.tau * turn)), side / 2 * (1 - radius * math.cos(math.tau * turn))

    draw.ellipse([at(0.875, 0.94 * math.sqrt(2)), at(0.375, 0.94 * math.sqrt(2))], fill=_FACE)
    for turn in (0.0, 0.25, 0.5, 0.75):
        draw.line([at(turn, 0.78), at(turn, 0.92)], fill=_TICK, width=side // 24)
    for turn, length, width, colour in ((time / TURN, 0.45, side // 9, _HOUR), (time % 60 / 60, 0.8, side // 11, _MINUTE)):
        draw.line([at(turn, 0), at(turn, length)], fill=colour, width=width)
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))


@functools.cache
def faces(size: int, step: int) -> npt.NDArray[np.uint8]:
    """(t size size 3) the faces of the times 0, step, 2·step, …; read-only, for everybody gets the same array."""
    made = np.stack([face(time, size) for time in range(0, TURN, step)])
    made.setflags(write=False)
    return made
