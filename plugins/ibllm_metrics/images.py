"""Figures of generated images, by their pixels. Torch-free. Shapes: b items, k draws, m images of a gallery, h w c image."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from ibllm.plugin import Context, Dataset, Metric
from ibllm_metrics import training_split
from ibllm_metrics.config import DiversityConfig, RetrievalConfig

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Record = Mapping[str, str | int | float]
#: Images of the gallery that are compared at once.
_CHUNK = 512


def resized(images: Pixels, size: int) -> Floats:
    """(b h w c) → (b size·size·c) in [0, 1], by area."""
    if images.shape[1:3] != (size, size):
        plain = images[..., 0] if images.shape[-1] == 1 else images
        scaled = [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX)) for image in plain]
        images = np.stack(scaled) if scaled else np.zeros((0, size, size, images.shape[-1]), np.uint8)
    return images.reshape(len(images), -1).astype(np.float32) * np.float32(1 / 255)


def squared_distances(a: Floats, b: Floats) -> Floats:
    """(b d), (m d) → (b m) ‖a − b‖²."""
    parts = []
    for start in range(0, len(b), _CHUNK):
        some = b[start : start + _CHUNK]
        parts.append(np.square(a).sum(1)[:, None] + np.square(some).sum(1)[None] - 2 * a @ some.T)
    return np.concatenate(parts, 1) if parts else np.zeros((len(a), 0), np.float32)


def several(evaluation: Evaluation, draws: int) -> Pixels:
    """(k b h w c) drawings of each caption; metrics of as many share them."""
    return evaluation.once(f"metrics.draws.{draws}", lambda: evaluation.draws(draws))


class Gallery:
    """Different images, each once."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._images: list[Pixels] = []
        self._captions: dict[str, set[int]] = {}

    def add(self, images: Pixels, captions: Sequence[str]) -> None:
        for image, caption in zip(images, captions, strict=True):
            place = self._places.setdefault(image.tobytes(), len(self._images))
            if place == len(self._images):
                self._images.append(image)
            self._captions.setdefault(caption, set()).add(place)

    def name(self, images: Pixels, captions: Sequence[str]) -> None:
        """These captions are of these images, too, as far as they are here."""
        for image, caption in zip(images, captions, strict=True):
            if (place := self._places.get(image.tobytes())) is not None:
                self._captions.setdefault(caption, set()).add(place)

    def of(self, caption: str) -> npt.NDArray[np.int64]:
        """Where the images with this caption are."""
        return np.array(sorted(self._captions.get(caption, ())), dtype=np.int64)

    def images(self) -> Pixels:
        return np.stack(self._images)

    def copy(self) -> Gallery:
        other = Gallery()
        other._places, other._images = dict(self._places), list(self._images)
        other._captions = {caption: set(places) for caption, places in self._captions.items()}
        return other


class RetrievalMetric(Metric):
    """The fraction of generated images whose nearest drawing (or one of the nearest five) is one that the caption belongs to: any drawing with its words."""

    def __init__(self, config: RetrievalConfig, context: Context) -> None:
        self.config = config
        self._training: tuple[Dataset, Gallery, str] | None = None

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        gallery = self._gallery(evaluation)
        distances = squared_distances(resized(evaluation.generated, self.config.size), resized(gallery.images(), self.config.size))
        # Every drawing of these words is a right one; where none is in the gallery, none is found.
        places = [gallery.of(caption) for caption in evaluation.captions]
        found = np.array([len(some) > 0 for some in places])
        best = np.array([row[some].min(initial=np.inf) for row, some in zip(distances, places, strict=True)])
        nearer = (distances < best[:, None]).sum(1)
        return {f"retrieval_top{k}": float((found & (nearer < k)).mean()) for k in (1, 5)}

    def record(self, evaluation: Evaluation) -> Record:
        given, gallery = self.config, self._gallery(evaluation).images()
        chosen: Record = {"extractor": "RGB, L2", "size": given.size, "among": given.among, "limit": given.limit}
        found: Record = {
            **super().record(evaluation),
            **chosen,
            "gallery": len(gallery),
            "gallery_images": training_split.images_hash(gallery),
        }
        if given.among == "split":
            return found
        _, known = self._trained(evaluation.dataset)
        return {**found, "train": training_split.count(evaluation.dataset, given.limit), "train_images": known}

    def _gallery(self, evaluation: Evaluation) -> Gallery:
        if self.config.among == "split":
            gallery = Gallery()
        else:
            gallery = self._trained(evaluation.dataset)[0].copy()
        if self.config.among != "train":
            gallery.add(evaluation.real, evaluation.captions)
        gallery.name(evaluation.real, evaluation.captions)
        return gallery

    def _trained(self, dataset: Dataset) -> tuple[Gallery, str]:
        """The training split's images and their hash, read once a run."""
        if self._training is None or self._training[0] is not dataset:
            gallery, read = Gallery(), []
            for samples in training_split.read(dataset, self.config.limit):
                assert samples.images is not None and samples.captions is not None, "the dataset gives no pairs"
                gallery.add(samples.images, samples.captions)
                read.append(samples.images)
            self._training = (dataset, gallery, training_split.images_hash(image for images in read for image in images))
        return self._training[1:]


class DiversityMetric(Metric):
    """Root mean square difference of the pixels of two drawings of one caption, in [0, 1], over all pairs of draws and all captions."""

    def __init__(self, config: DiversityConfig, context: Context) -> None:
        self.config = config

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        draws = several(evaluation, self.config.draws).astype(np.float32) / 255
        pairs = itertools.combinations(range(len(draws)), 2)
        return {"diversity": float(np.mean([np.sqrt(np.square(draws[i] - draws[j]).mean((1, 2, 3))).mean() for i, j in pairs]))}

    def record(self, evaluation: Evaluation) -> Record:
        return {**super().record(evaluation), "extractor": "RGB, root mean square", "draws": self.config.draws}
