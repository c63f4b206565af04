"""A trained model on one split: what metrics ask for, computed once for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import attrs
import numpy as np
import numpy.typing as npt

from .interfaces.dataset import Dataset, Samples
from .interfaces.metric import Metric
from .model import Model, Pixels

_T = TypeVar("_T")


class Evaluation:
    """The first `items` of a split and what the model makes of them, on demand.

    The noise is keyed by (seed, split, the item's index): neither the batch size nor the number of items changes a picture.
    """

    def __init__(self, model: Model, dataset: Dataset, split: str, *, items: int, seed: int = 0, batch: int = 128) -> None:
        self.model, self.dataset, self.split, self.seed, self.batch = model, dataset, split, seed, batch
        self._shared: dict[str, Any] = {}
        self.indices = np.arange(min(items, dataset.sizes()[split]), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def once(self, name: str, compute: Callable[[], _T]) -> _T:
        """What metrics share: computed by the first that asks, under a name that begins with its plugin's."""
        if name not in self._shared:
            self._shared[name] = compute()
        found: _T = self._shared[name]
        return found

    @cached_property
    def samples(self) -> Samples:
        """The items as the dataset gives them; the images are read-only, since all metrics look at the same."""
        found = self.dataset.samples(self.split, self.indices)
        return found if found.images is None else attrs.evolve(found, images=_read_only(found.images))

    @property
    def captions(self) -> Sequence[str]:
        assert self.samples.captions is not None, "the dataset gives no captions"
        return self.samples.captions

    @property
    def languages(self) -> Sequence[str]:
        """b language codes; ``und`` where the dataset does not say."""
        return self.samples.languages if self.samples.languages is not None else ["und"] * len(self)

    @property
    def real(self) -> Pixels:
        """(b h w c) the images of the split."""
        assert self.samples.images is not None, "the dataset gives no images"
        return self.samples.images

    @property
    def draws_captions(self) -> bool:
        """True where there are captions and the model draws."""
        return self.samples.captions is not None and {"text_encoder", "image_decoder"} <= set(self.model.parts)

    @property
    def reads_images(self) -> bool:
        """True where there are images and the model reads."""
        return self.samples.images is not None and {"image_encoder", "text_decoder"} <= set(self.model.parts)

    @cached_property
    def generated(self) -> Pixels:
        """(b h w c) drawn from the captions, read-only."""
        return _read_only(self.draws(1)[0])

    def draws(self, count: int) -> npt.NDArray[np.uint8]:
        """(k b h w c) `count` drawings of each caption, each with noise of its own; the first is `generated`'s."""
        offset = np.int64(1) << 40
        return np.stack(
            [self.model.generate(self.captions, seed=self._seed, numbers=self.indices + k * offset, batch=self.batch) for k in range(count)]
        )

    @cached_property
    def read(self) -> list[str]:
        """b captions read off the real images."""
        return self.model.caption(self.real, batch=self.batch)

    @cached_property
    def reread(self) -> list[str]:
        """b captions read off the generated images."""
        return self.model.caption(self.generated, batch=self.batch)

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """Beginnings of the SHA-256 of the items' captions and images: equal where figures were measured against the same."""
        found = {}
        if self.samples.captions is not None:
            found["captions"] = hashlib.sha256("\n".join(self.samples.captions).encode()).hexdigest()[:16]
        if self.samples.images is not None:
            found["images"] = hashlib.sha256(self.samples.images.tobytes()).hexdigest()[:16]
        return found

    @property
    def _seed(self) -> int:
        from .randomness import derive_key

        return derive_key(self.seed, self.split)


def _read_only(pixels: Pixels) -> Pixels:
    view = pixels.view()
    view.flags.writeable = False
    return view


def evaluate(
    model: Model,
    dataset: Dataset,
    metrics: Mapping[str, Metric],
    split: str,
    *,
    items: int,
    seed: int = 0,
    batch: int = 128,
    checkpoint: Callable[[], None] | None = None,
) -> tuple[dict[str, float], Evaluation]:
    """Figure name → value over all metrics, and the evaluation they were read off. `checkpoint` is called between metrics and may raise."""
    evaluation = Evaluation(model, dataset, split, items=items, seed=seed, batch=batch)
    figures: dict[str, float] = {}
    for name, metric in metrics.items():
        found = metric.evaluate(evaluation)
        twice = sorted(set(found) & set(figures))
        if twice:
            raise ValueError(f"metric {name} gives {', '.join(twice)}, which another metric gave already")
        figures |= {key: float(value) for key, value in found.items()}
        if checkpoint is not None:
            checkpoint()
    return figures, evaluation


def records(metrics: Mapping[str, Metric], evaluation: Evaluation) -> dict[str, dict[str, str | int | float]]:
    """Metric name → how its figures came about."""
    return {name: dict(metric.record(evaluation)) for name, metric in metrics.items()}
