"""What metrics and plugins add to a run's report. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt

#: Sections of the report after which a panel may stand.
PLACES = ("training", "figures", "samples")


@attrs.frozen(kw_only=True, eq=False)
class Panel:
    """A titled box in the report: a text, a table, a picture, or some of them. Nothing of it is read as HTML.

    Attributes:
        title: stands above it.
        place: the section after which it stands (`PLACES`).
        text: paragraphs, a blank line between them.
        header, rows: a table of strings and numbers; numbers are shown with four significant digits.
        picture: pixels (h w) or (h w c), uint8. Trackers show it, too.
        alt: what a screen reader says of the picture.
        source: who gives it; for a metric its name in the recipe and the split are filled in.

    Raises:
        ValueError: there is no such place, a row is not as wide as the header, or the picture is no picture.
    """

    title: str
    place: str = attrs.field(default="figures", validator=attrs.validators.in_(PLACES))
    text: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str | int | float]] = ()
    picture: npt.NDArray[np.uint8] | None = None
    alt: str = ""
    source: str = ""

    def __attrs_post_init__(self) -> None:
        if wrong := [row for row in self.rows if len(row) != len(self.header)]:
            raise ValueError(f"{self.title}: a row of {len(wrong[0])} cells: expected {len(self.header)}, as the header has")
        if self.picture is not None and not (self.picture.dtype == np.uint8 and self.picture.ndim in (2, 3)):
            raise ValueError(f"{self.title}: picture is {self.picture.dtype} {self.picture.shape}: expected uint8 (h w) or (h w c)")


class Panels(list[Panel]):
    """A list to which panels, and nothing else, are appended. Raises `TypeError`."""

    def append(self, panel: Panel) -> None:
        if not isinstance(panel, Panel):
            raise TypeError(f"panels: expected a Panel, not a {type(panel).__name__}")
        super().append(panel)
