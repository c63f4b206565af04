"""The same from Python: ``ibllm.recipe(…).run()``, ``ibllm.open(…)``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ibllm_core.errors import Notice, UserError
from ibllm_core.runs.directory import read_json

from .arguments import a_name, a_path, overrides, whole_number
from .finished import Run
from .trained import Trained

if TYPE_CHECKING:
    from ibllm_core.interfaces.dataset import Dataset
    from ibllm_core.model.model import Model
    from ibllm_core.recipe.schema import Recipe
    from ibllm_core.training.events import Listener

__all__ = ["LoadedRecipe", "Run", "Trained", "from_pretrained", "open", "recipe"]

#: The weights' file in a run's ``model/``, and in Hugging Face's layout.
WEIGHTS = ("weights.safetensors", "model.safetensors")


class LoadedRecipe:
    """A resolved recipe that can be checked and run."""

    def __init__(self, resolved: Recipe) -> None:
        self.resolved = resolved

    @property
    def dataset(self) -> Dataset:
        """Its data, made anew."""
        from ibllm_core.model import build

        return build.build_dataset(self.resolved)

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
        from ibllm.sources import accepting
        from ibllm_core.training.job import Job

        job = Job(on_device(self.resolved, device), a_path("run_dir", run_dir) if run_dir is not None else None, listeners)
        with accepting(code=accept_code):
            job.run(resume)
        return Run(job.directory.path, device)


def on_device(recipe: Recipe, device: str | None) -> Recipe:
    """The recipe with another device, where one is given; its source keeps what it says. Raises `UserError` for one that is not here."""
    if device is None:
        return recipe
    import attrs

    from ibllm_core.model.compute import choose_device

    choose_device(a_name("device", device, "cpu"))
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

    return LoadedRecipe(load(a_path("the recipe", path), overrides(set), None if seed is None else whole_number("seed", seed, 0)))


def open(path: str | os.PathLike[str], *, device: str | None = None) -> Trained:
    """Opens what was trained.

    Args:
        path: a run directory (which gives a `Run`), its ``model/`` folder, or a folder in Hugging Face's layout.
        device: where the model goes; by default where it was trained, if there is such a device here.

    Raises:
        UserError: it is none of these.
    """
    folder = a_path("what is opened", path)
    if not folder.exists():
        raise UserError(f"there is no {folder}: expected a run directory, its model/ folder or one that save_pretrained wrote")
    if not (folder / "recipe.toml").is_file():
        raise UserError(f"{folder} is no run directory and no model folder: it holds no recipe.toml")
    device = None if device is None else a_name("device", device, "cpu")
    return Trained(folder, device) if any((folder / name).is_file() for name in WEIGHTS) else Run(folder, device)


def from_pretrained(
    name: str | os.PathLike[str], *, device: str | None = None, revision: str | None = None, token: str | None = None
) -> Trained:
    """Opens a model that `Trained.save_pretrained` wrote or `push_to_hub` uploaded.

    Args:
        name: a folder, or ``NAME/MODEL`` of the Hugging Face Hub (extra ``ibllm[hub]``), which is downloaded once. Nothing in it is unpickled or executed.
        device: where the model goes; by default where it was trained, if there is such a device here.
        revision, token: of the Hub's repository.

    Raises:
        UserError: there is no such folder or model, or what it needs is not installed.
    """
    if a_path("name", name).exists():
        return open(name, device=device)
    from .hub import download

    return open(download(os.fspath(name), revision=revision, token=token), device=device)


def weights_file(folder: Path) -> Path:
    """The file of a model folder's weights, whichever layout it has."""
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), folder / WEIGHTS[0])


def open_model(folder: Path, recipe: Recipe | None = None, device: str | None = None) -> Model:
    """A model folder's model, ready to use, on `device`, else on the recipe's, else on one that is here.

    Raises:
        UserError: something is missing or damaged, or `device` is not here.
    """
    import warnings

    from ibllm_core.model import build
    from ibllm_core.model.compute import choose_device, choose_precision
    from ibllm_core.runs.model_folder import not_finite, of, read_weights

    from .opening import load_recorded

    file = weights_file(folder)
    weights = read_weights(file)
    if recipe is None:
        recipe = load_recorded(folder / "recipe.toml", read_json(folder / "model.json") or {}, str(folder))
    model = build.build_model(recipe, build.build_tokenizers(recipe, saved=folder), build.image_shape(recipe))
    missing, unexpected = model.load_state_dict({f"parts.{name}": t for name, t in of("parts", weights).items()}, strict=False)
    if missing or unexpected:
        raise UserError(f"{file} does not fit its recipe: missing {missing[:3]}, unexpected {unexpected[:3]}")
    if flaws := not_finite(weights, {name for name, _ in model.named_buffers()}):
        raise UserError(f"{file}: not finite: {', '.join(flaws[:3])}; the training diverged")
    chosen, wish = choose_device(device or recipe.compute.device, or_auto=device is None), recipe.compute.device.partition(":")[0]
    if device is None and wish not in ("auto", chosen.type):
        warnings.warn(
            Notice(f"{folder} was made for the device {recipe.compute.device}, which is not here; {chosen} is used"), stacklevel=2
        )
    model.autocast, model.tf32 = choose_precision(recipe.compute.precision, chosen), recipe.compute.precision == "tf32"
    return model.to(chosen).eval()
