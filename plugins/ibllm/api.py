"""The same from Python: ``ibllm.recipe(…).run()``, ``ibllm.open(…)``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ibllm_core.errors import UserError
from ibllm_core.runs.directory import RunDirectory, read_json

if TYPE_CHECKING:
    from ibllm_core.interfaces.dataset import Dataset
    from ibllm_core.model.model import Model
    from ibllm_core.recipe.schema import Recipe
    from ibllm_core.training.events import Listener

__all__ = ["LoadedRecipe", "Run", "open", "recipe"]


class Run:
    """A finished (or unfinished) run, opened.

    Args:
        device: where its model goes; by default where it was trained, if there is such a device here.

    Example:
        >>> run = ibllm.open("runs/joint")                        # doctest: +SKIP
        >>> images = run.model.generate(["a small red circle at the top left"])   # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str], device: str | None = None) -> None:
        self.directory, self.device = RunDirectory(Path(path)), device
        if not self.directory.recipe.is_file():
            raise UserError(f"{path} is no run directory: it holds no recipe.toml")

    @property
    def path(self) -> Path:
        return self.directory.path

    @cached_property
    def info(self) -> dict[str, Any]:
        return self.directory.info()

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe as it was resolved when the run started."""
        return self.directory.load()

    @cached_property
    def results(self) -> dict[str, float]:
        """The flat table of figures. Raises `UserError` where the run has not got so far."""
        found = read_json(self.directory.results)
        if found is None:
            raise UserError(f"{self.path} has no results yet; go on with it: ibllm run {self.path} --resume")
        return found

    @cached_property
    def dataset(self) -> Dataset:
        from ibllm_core.model import build

        return build.build_dataset(self.recipe)

    @cached_property
    def model(self) -> Model:
        """The trained model, on its device."""
        from ibllm_core.runs.model_folder import open_model

        return open_model(self.directory.model, self.recipe, self.device)


class LoadedRecipe:
    """A resolved recipe that can be checked and run."""

    def __init__(self, resolved: Recipe) -> None:
        self.resolved = resolved

    def check(self) -> object:
        """Builds it on the meta device (`ibllm_core.contracts.Report`)."""
        from ibllm_core.contracts import check

        return check(self.resolved)

    def run(
        self,
        run_dir: str | os.PathLike[str] | None = None,
        *,
        resume: bool = False,
        accept_code: bool = False,
        listeners: Iterable[Listener] = (),
        device: str | None = None,
    ) -> Run:
        """Trains it and gives the run, opened.

        Args:
            run_dir: by default ``runs/<name>``.
            resume: go on from the newest good checkpoint.
            accept_code: go on although the source of a package, or a run that weights are taken from, has changed since.
            listeners: objects that look on (`ibllm_core.training.events.Listener`).
            device: instead of the recipe's ``compute.device``.

        Raises:
            UserError: what the command line exits with 2 for.
        """
        from ibllm_core.model.compute import on_device
        from ibllm_core.training.job import Job

        job = Job(on_device(self.resolved, device), Path(run_dir) if run_dir is not None else None, listeners)
        job.run(resume, accept_code)
        return open(job.directory.path, device=device)


def recipe(path: str | os.PathLike[str], *, set: Iterable[str] = (), seed: int | None = None) -> LoadedRecipe:
    """Reads a recipe.

    Args:
        path: a TOML file.
        set: overrides as on the command line, ``"stages.joint.steps=40"``.
        seed: instead of the recipe's own.

    Raises:
        UserError: with every mistake in it.
    """
    from ibllm_core.recipe import load

    return LoadedRecipe(load(Path(path), tuple(set), seed))


def open(path: str | os.PathLike[str], *, device: str | None = None) -> Run:
    """Opens a run directory; its model goes to `device`, by default to the one that it was trained on, if there is such a one here."""
    return Run(path, device)
