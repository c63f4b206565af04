"""What is made of a trained model and of a run's figures: metrics, the panels that they and plugins add to the report, trackers. Torch-free."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ..model.evaluation import Evaluation
    from ..recipe.schema import Recipe

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


class Metric(ABC):
    """Figures of a trained model on one split. What it asks of the evaluation is computed once for all metrics."""

    @abstractmethod
    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        """Figure → value, all that the config's `figures` names. Fractions are in [0, 1].

        Every value is finite: a run ends, with the metric's name, where one is not. What the evaluation hands out is read-only.
        """

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        """How the figures came about, for the run's record: what extracted them, its sizes, n, and what they were compared with.

        By default n and the split's hashes; a metric adds what else its figures depend on, and ``caution FIGURE`` where one misleads. Asked after `evaluate`.
        """
        return {"n": len(evaluation), **evaluation.hashes}

    def marks(self, evaluation: Evaluation) -> Mapping[str, npt.NDArray[np.bool_]]:
        """What is right or wrong item by item, for sample grids: mark → (b), those that the config's `marks` names. By default nothing."""
        return {}

    def panels(self, evaluation: Evaluation) -> Iterable[Panel]:
        """What the report shows besides the figures, asked after `evaluate` on each reported split. By default nothing."""
        return ()


class Tracker(ABC):
    """Writes a run's figures somewhere. Called at log steps only, from the first rank."""

    @abstractmethod
    def open(self, run_dir: Path, step: int, recipe: Recipe) -> None:
        """Starts writing into the run directory at `step` (more than 0 after a restart: what lies beyond it is to be forgotten).

        `recipe` is the resolved one; ``recipe.source`` is its text.
        """

    @abstractmethod
    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Figures by name at a global step."""

    @abstractmethod
    def image(self, name: str, pixels: npt.NDArray[np.uint8], step: int) -> None:
        """A picture (h w c): a sheet of samples of each reported split, ``samples/SPLIT``, and at the end panels, ``panels/TITLE``."""

    @abstractmethod
    def close(self) -> None:
        """Everything is on disk. May be called again, and where nothing was opened."""
