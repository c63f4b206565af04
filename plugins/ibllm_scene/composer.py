"""What a dataset may say of its captions, so that a world is made of things in places and not of captions alone. Torch-free.

Shapes: b images, h w c pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

#: A thing that captions speak of; opaque, but two that are equal are alike.
Thing = Any


class Composer(Protocol):
    """Takes captions apart and writes them; a dataset has it as its method ``composer()``.

    Attributes:
        grid: rows and columns of the cells that captions name; None where they name none, and then a world is a sequence of captions.
        least, most: things of one caption.
        example: how a thing is named.
    """

    grid: tuple[int, int] | None
    least: int
    most: int
    example: str

    def thing(self, phrase: str) -> Thing | None:
        """What a phrase names; None where it names nothing of these data."""

    def things(self, caption: str) -> Mapping[int, Thing] | None:
        """Cell, counted in reading order → thing; None where the caption is none of these data's, or names no cells."""

    def language(self, text: str) -> str:
        """The language of a phrase or a caption that was understood."""

    def write(self, things: Mapping[int, Thing], language: str) -> str:
        """The caption of things in cells."""

    def same(self, caption: str, other: str) -> bool:
        """Whether two captions say the same."""

    def shows(self, images: npt.NDArray[np.uint8], captions: Sequence[str]) -> npt.NDArray[np.bool_]:
        """(b) whether images (b h w c) show what captions say and nothing else, as the dataset's own reader finds, which is no part of a model."""
