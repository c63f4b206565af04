"""The space in which a model's captions and images lie near each other: of a loss that learned one, or fitted to the training data.

Shapes: b batch, d, e widths of the encoders' pooled latents, k of the space.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import attrs
import numpy as np
import numpy.typing as npt
from torch import Tensor

from ibllm_core.errors import UserError
from ibllm_core.interfaces.batch import take, to_images, to_tokens
from ibllm_core.interfaces.dataset import Dataset
from ibllm_core.interfaces.latent import Latent
from ibllm_core.model import build
from ibllm_core.model.model import Model
from ibllm_core.recipe.schema import Recipe
from ibllm_core.runs.directory import replacing
from ibllm_core.runs.model_folder import of

from .blocks.canonical import CanonicalCorrelations, fit_canonical
from .use import Floats, Pixels, encode_image, encode_text, joined, slices

#: Pairs of the training data that a space is fitted to, and the ridge of that fit (`fit_canonical`).
PAIRS, RIDGE = 512, 1e-2

#: The file in a model folder that keeps what was fitted.
DIRECTIONS = "agreement.safetensors"


@runtime_checkable
class CommonSpace(Protocol):
    """A loss that learns a space in which captions and images that belong together lie near each other; `ibllm.open` then measures agreement in it."""

    def text_point(self, z: Latent) -> Tensor:
        """A caption's latent → unit vectors (b k)."""

    def image_point(self, z: Latent) -> Tensor:
        """An image's latent → unit vectors (b k)."""


class Learned:
    """The space of a loss."""

    def __init__(self, model: Model, loss: Any, name: str) -> None:
        self.model, self.loss, self.name = model, loss.to(model.device).eval(), name
        self.what = f"the common space of the loss {name}"

    def texts(self, texts: Sequence[str]) -> Floats:
        """b texts → (b k) unit vectors."""
        model = self.model
        encoder, tokenizer, loss = model.part("text_encoder"), model.tokenizers["text_encoder"], self.loss.to(model.device)
        with model.inference():
            found = [loss.text_point(encoder(to_tokens(tokenizer, texts[rows]).to(model.device))) for rows in slices(len(texts))]
        return joined(found, 1)

    def images(self, images: Pixels) -> Floats:
        """images (b h w c) → (b k) unit vectors."""
        model, loss = self.model, self.loss.to(self.model.device)
        encoder = model.part("image_encoder")
        with model.inference():
            found = [loss.image_point(encoder(to_images(images[rows]).to(model.device))) for rows in slices(len(images))]
        return joined(found, 1)


class Fitted:
    """Canonical directions of the encoders' pooled latents over pairs of the training data."""

    what = "canonical directions of both latents over the training data"

    def __init__(self, model: Model, directions: CanonicalCorrelations) -> None:
        self.model, self.directions = model, directions

    def texts(self, texts: Sequence[str]) -> Floats:
        """b texts → (b k) unit vectors."""
        return _unit(self.directions.x_points(encode_text(self.model, texts).astype(np.float64)))

    def images(self, images: Pixels) -> Floats:
        """images (b h w c) → (b k) unit vectors."""
        return _unit(self.directions.y_points(encode_image(self.model, images).astype(np.float64)))


class Paired:
    """The common space of a pretrained pair like CLIP, where both encoders are its own and as they were."""

    def __init__(self, model: Model, name: str) -> None:
        self.model, self.what = model, f"the common space of the pretrained pair {name}"

    def texts(self, texts: Sequence[str]) -> Floats:
        """b texts → (b k) unit vectors."""
        return _unit(encode_text(self.model, texts).astype(np.float64))

    def images(self, images: Pixels) -> Floats:
        """images (b h w c) → (b k) unit vectors."""
        return _unit(encode_image(self.model, images).astype(np.float64))


Space = Learned | Fitted | Paired


def _unit(points: npt.NDArray[np.float64]) -> Floats:
    lengths = np.linalg.norm(points, axis=-1, keepdims=True)
    return (points / np.maximum(lengths, np.finfo(np.float64).tiny)).astype(np.float32)


def learned_space(model: Model, recipe: Recipe, weights: Path) -> Learned | None:
    """The space of the first loss of a stage that learns one and whose weights are in the file."""
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        there = {name: file.get_tensor(name) for name in file.keys() if name.startswith("losses.")}  # noqa: SIM118
    used = build.losses_with_terms(recipe, [name for stage in recipe.running() for name in stage.losses])
    for name in used:
        own = of(f"losses.{name}", there)
        if not own:
            continue
        loss = build.build_losses(recipe, [name], model)[name]
        if isinstance(loss, CommonSpace):
            loss.load_state_dict(own)
            return Learned(model, loss, name)
    return None


def paired_space(model: Model) -> Paired | None:
    """The space of the pair that both encoders are the untrained towers of, as they say themselves (`pair`, the model's name)."""
    names = {str(getattr(model.part(part), "pair", "")) for part in ("text_encoder", "image_encoder")}
    return Paired(model, Path(names.pop()).name) if len(names) == 1 and "" not in names else None


def fitted_space(model: Model, dataset: Dataset) -> Fitted:
    """A space fitted to the first pairs of the training data. Raises `UserError` where there are none."""
    found = take(dataset, "train", np.arange(min(PAIRS, dataset.sizes()["train"]), dtype=np.int64))
    if found.captions is None or found.images is None:
        raise UserError("the model's data have no pairs of captions and images, so nobody knows how its latents go together")
    x, y = encode_text(model, list(found.captions)), encode_image(model, np.asarray(found.images))
    return Fitted(model, fit_canonical(x.astype(np.float64), y.astype(np.float64), RIDGE))


def write_directions(path: Path, directions: CanonicalCorrelations) -> None:
    """Keeps fitted directions beside a model."""
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        save_file({name: np.ascontiguousarray(values) for name, values in attrs.asdict(directions, recurse=False).items()}, partial)


def read_directions(path: Path) -> CanonicalCorrelations | None:
    """Fitted directions; None where none are kept. Raises `UserError` where they are damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        return None
    try:
        return CanonicalCorrelations(**load_file(path))
    except (SafetensorError, TypeError, OSError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
