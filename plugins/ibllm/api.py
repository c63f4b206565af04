"""The same from Python: ``ibllm.recipe(…).run()``, ``ibllm.open(…)``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ibllm_core.errors import Notice, UserError
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
        from .opening import load_run

        return load_run(self.directory)

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
        return open_model(self.directory.model, self.recipe, self.device)


class LoadedRecipe:
    """A resolved recipe that can be checked and run."""

    def __init__(self, resolved: Recipe) -> None:
        self.resolved = resolved

    def check(self) -> object:
        """Builds it on the meta device (`ibllm.contracts.Report`)."""
        from ibllm.contracts import check

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
        from ibllm_core.training.job import Job

        job = Job(on_device(self.resolved, device), Path(run_dir) if run_dir is not None else None, listeners)
        job.run(resume, accept_code)
        return open(job.directory.path, device=device)


def on_device(recipe: Recipe, device: str | None) -> Recipe:
    """The recipe with another device, where one is given; its source keeps what it says. Raises `UserError` for one that is not here."""
    if device is None:
        return recipe
    import attrs

    from ibllm_core.model.compute import choose_device

    choose_device(device)
    return attrs.evolve(recipe, compute=attrs.evolve(recipe.compute, device=device))


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


def open_model(folder: Path, recipe: Recipe | None = None, device: str | None = None) -> Model:
    """A model folder's model, ready to use, on `device`, else on the recipe's, else on one that is here.

    Raises:
        UserError: something is missing or damaged, or `device` is not here.
    """
    import warnings

    from ibllm_core.model import build
    from ibllm_core.model.compute import choose_device, choose_precision
    from ibllm_core.runs.model_folder import WEIGHTS, not_finite, of, read_weights

    from .opening import load_recorded

    weights = read_weights(folder / WEIGHTS)
    if recipe is None:
        recipe = load_recorded(folder / "recipe.toml", read_json(folder / "model.json") or {}, str(folder))
    model = build.build_model(recipe, build.build_tokenizers(recipe, saved=folder), build.image_shape(recipe))
    missing, unexpected = model.load_state_dict({f"parts.{name}": t for name, t in of("parts", weights).items()}, strict=False)
    if missing or unexpected:
        raise UserError(f"{folder / WEIGHTS} does not fit its recipe: missing {missing[:3]}, unexpected {unexpected[:3]}")
    if flaws := not_finite(weights, {name for name, _ in model.named_buffers()}):
        raise UserError(f"{folder / WEIGHTS}: not finite: {', '.join(flaws[:3])}; the training diverged")
    chosen, wish = choose_device(device or recipe.compute.device, or_auto=device is None), recipe.compute.device.partition(":")[0]
    if device is None and wish not in ("auto", chosen.type):
        warnings.warn(
            Notice(f"{folder} was made for the device {recipe.compute.device}, which is not here; {chosen} is used"), stacklevel=2
        )
    model.autocast, model.tf32 = choose_precision(recipe.compute.precision, chosen), recipe.compute.precision == "tf32"
    return model.to(chosen).eval()
