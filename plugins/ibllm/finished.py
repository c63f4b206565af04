"""A run, opened: what was trained, with its record and its results. Torch-free to import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ibllm_core.errors import UserError
from ibllm_core.runs.directory import RunDirectory, read_json

from .trained import Trained

if TYPE_CHECKING:
    from ibllm_core.recipe.schema import Recipe

    from .knobs import Knob

__all__ = ["Run"]


class Run(Trained):
    """A finished (or unfinished) run, opened: a trained model with its record and its results.

    Example:
        >>> run = ibllm.open("runs/joint")                        # doctest: +SKIP
        >>> run.results["test/scene_exact"]                       # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str], device: str | None = None) -> None:
        super().__init__(path, device)
        self.directory = RunDirectory(self.path)
        if not self.directory.recipe.is_file():
            raise UserError(f"{path} is no run directory: it holds no recipe.toml")

    @property
    def folder(self) -> Path:
        return self.directory.model

    @property
    def info(self) -> dict[str, Any]:
        """What run.json says."""
        found: dict[str, Any] = self._once("info", self.directory.info)
        return found

    def _read_recipe(self) -> Recipe:
        """The recipe as it was resolved when the run started."""
        from .opening import load_run

        return load_run(self.directory)

    def knob(self, *sets: str, at: int | None = None, wait: float = 0.0) -> Knob | None:
        """Turns something of the run while it trains (`ibllm.knobs.turn`): ``run.knob("losses.cycle.weight=0.2")``."""
        from .knobs import turn

        return turn(self.path, *sets, at=at, by="Run.knob", wait=wait)

    @property
    def knobs(self) -> list[Knob]:
        """What was turned while the run trained, in order."""
        from .knobs import recorded

        return recorded(self.path)

    @property
    def results(self) -> dict[str, float]:
        """The flat table of figures. Raises `UserError` where the run has not got so far."""
        found = read_json(self.directory.results)
        if found is None:
            raise UserError(f"{self.path} has no results yet; go on with it: ibllm run {self.path} --resume")
        return found
