"""An opened model: its folder, its recipe, its record, its weights and its place. Torch-free to import."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ibllm_core.errors import Notice, UserError
from ibllm_core.host.options import DatasetConfig
from ibllm_core.runs.directory import read_json

from .arguments import a_name
from .pictures import Fit

if TYPE_CHECKING:
    from ibllm_core.interfaces.dataset import Dataset
    from ibllm_core.model.model import Model
    from ibllm_core.recipe.schema import Recipe

    from .agreement import Space

__all__ = ["Opened"]


class Opened:
    """What `Trained` is made of: everything but what it does."""

    def __init__(self, path: str | os.PathLike[str], device: str | None = None) -> None:
        self.path, self.device = Path(path), device
        self._lock = threading.RLock()
        self._made: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @property
    def folder(self) -> Path:
        """The folder of weights, tokenizers and recipe."""
        return self.path

    def _once(self, name: str, make: Any) -> Any:
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            return self._made[name]

    @property
    def record(self) -> dict[str, Any]:
        """What the folder says of its model: the image's shape, packages and versions, attribution."""
        found: dict[str, Any] = self._once("record", lambda: next(filter(None, map(read_json, self._records())), {}))
        return found

    def _records(self) -> Iterator[Path]:
        """Where the record is, in a run's model folder and in Hugging Face's layout."""
        yield from (self.folder / "model.json", self.folder / "config.json")

    @property
    def recipe(self) -> Recipe:
        """The recipe that the model was trained by."""
        found: Recipe = self._once("recipe", self._read_recipe)
        return found

    def _read_recipe(self) -> Recipe:
        from .opening import load_recorded

        return load_recorded(self.folder / "recipe.toml", self.record, str(self.path))

    def require_questions(self) -> None:
        """Raises `UserError` for a model that no loss of its recipe taught to ask or to answer: it would write something all the same."""
        played = {name for stage in self.recipe.running() for name in stage.losses}
        if not any("data.questions" in self.recipe.losses[name].component.config.needs() for name in played):
            raise UserError(
                f"{self.path} was trained on no questions: none of its stages has a loss on them; ibllm:vqa is a recipe that has"
            )

    @property
    def dataset(self) -> Dataset:
        """The data of the recipe."""
        from ibllm_core.model import build

        found: Dataset = self._once("dataset", lambda: build.build_dataset(self.recipe))
        return found

    @property
    def results(self) -> dict[str, float]:
        """The flat table of figures of its run, where the folder tells them. Raises `UserError` where it does not."""
        found: dict[str, float] | None = self.record.get("results")
        if found is None:
            raise UserError(f"{self.path} tells no results; the run directory that it came from does")
        return found

    @property
    def model(self) -> Model:
        """The model itself (torch), on its device."""
        from .api import open_model

        found: Model = self._once("model", lambda: open_model(self.folder, self.recipe, self.device))
        return found

    @property
    def fit(self) -> Fit:
        """How pictures of any size become what the model reads: as those of its data did."""
        kept, config = self.record.get("fit"), self.recipe.data.config
        assert isinstance(config, DatasetConfig)
        how, background = config.fitting() if kept is None else kept
        return Fit(how, tuple(background))

    def to(self, device: str) -> Self:
        """Moves the model to a device (``cpu``, ``cuda``, ``cuda:1``, ``auto``, …). Raises `UserError` for one that is not here."""
        from ibllm_core.model.compute import choose_device, choose_precision

        with self._lock:
            chosen, precision = choose_device(a_name("device", device, "cpu")), self.recipe.compute.precision
            self.model.autocast = choose_precision(precision, chosen)
            self.model.to(chosen)
            self.device = device
        return self

    @property
    def key(self) -> str:
        """A hash of the weights: what belongs to this model alone is kept under it."""
        from .api import weights_file
        from .search import file_hash

        found: str = self._once("key", lambda: file_hash(weights_file(self.folder)))
        return found

    @property
    def image_likelihood(self) -> str | None:
        """What the image decoder's likelihood is: ``exact``, a ``bound``, or None where it has none."""
        drawer = self.recipe.parts.get("image_decoder")
        kinds = {"exact_likelihood": "exact", "likelihood_bound": "bound"}
        return next((kind for word, kind in kinds.items() if drawer is not None and word in drawer.config.provides()), None)

    @property
    def space(self) -> Space:
        """Where texts and images can be compared. Raises `UserError` where there is no such space."""
        found: Space = self._once("space", self._find_space)
        return found

    @property
    def agrees_by(self) -> str | None:
        """What agreement is measured in, in words; None where the model has no such space."""

        def find() -> str | None:
            try:
                return self.space.what
            except UserError as error:
                if {"text_encoder", "image_encoder"} <= set(self.recipe.parts):
                    warnings.warn(Notice(f"no agreement is measured: {error}"), stacklevel=5)
                return None

        found: str | None = self._once("agrees_by", find)
        return found

    def _find_space(self) -> Space:
        from . import agreement
        from .api import weights_file
        from .hashes import cache_folder

        for part in ("text_encoder", "image_encoder"):
            self.model.part(part)
        learned = agreement.learned_space(self.model, self.recipe, weights_file(self.folder))
        if (found := learned or agreement.paired_space(self.model)) is not None:
            return found
        cached = cache_folder() / "agreement" / f"{self.key}.safetensors"
        for file in (self.folder / agreement.DIRECTIONS, cached):
            if (kept := agreement.read_directions(file)) is not None:
                return agreement.Fitted(self.model, kept)
        space = agreement.fitted_space(self.model, self.dataset)
        with suppress(OSError):  # it is fitted again the next time
            agreement.write_directions(cached, space.directions)
        return space

    @contextmanager
    def computing(self, **live: Any) -> Iterator[Model]:
        """The model for computations of one's own: no other thread has it within, gradients and dropout are off.

        Args:
            live: options of the image decoder that may be changed in use, see `live_options`.
        """
        from .live import changed

        with self._lock:
            model = self.model
            with ExitStack() as stack:
                if wanted := {name: value for name, value in live.items() if value is not None}:
                    drawer = self.recipe.parts.get("image_decoder")
                    part = model.part("image_decoder")
                    assert drawer is not None
                    stack.enter_context(changed(part, drawer.config, wanted, f"image_decoder.{drawer.use}"))
                stack.enter_context(model.inference())
                yield model

    def live_options(self, part: str = "image_decoder") -> dict[str, Any]:
        """The options of a part that may be changed in use → their values."""
        from .live import live_options

        return live_options(self.recipe.parts[part].config) if part in self.recipe.parts else {}
