"""Where figures are written beside metrics.jsonl."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ..recipe.schema import Recipe


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
