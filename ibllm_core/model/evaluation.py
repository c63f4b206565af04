"""A trained model on one split: what metrics ask for, computed once for all of them."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import Notice
from ..host.attribution import WrongAnswer
from ..interfaces.batch import frozen, take
from ..interfaces.dataset import Dataset, Samples
from ..interfaces.randomness import derive_key
from ..interfaces.reporting import Metric
from .model import Model, Pixels

_T = TypeVar("_T")


class Evaluation:
    """The first `items` of a split and what the model makes of them, on demand.

    All metrics look at the same: what is handed out cannot be changed.

    The noise is keyed by (seed, split, the item's index): neither the batch size nor the number of items changes a picture.
    """

    def __init__(self, model: Model, dataset: Dataset, split: str, *, items: int, seed: int = 0, batch: int = 128) -> None:
        self.model, self.dataset, self.split, self.seed, self.batch = model, dataset, split, seed, batch
        self._shared: dict[str, Any] = {}
        self.indices = frozen(np.arange(min(items, dataset.sizes()[split]), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.indices)

    def once(self, name: str, compute: Callable[[], _T]) -> _T:
        """What metrics share: computed by the first that asks, under a name that begins with its plugin's.

        Arrays come back read-only, lists as tuples, dicts as read-only views.
        """
        if name not in self._shared:
            self._shared[name] = frozen(compute())
        found: _T = self._shared[name]
        return found

    @cached_property
    def samples(self) -> Samples:
        """The items as the dataset gives them."""
        found: Samples = frozen(take(self.dataset, self.split, self.indices))
        return found

    @property
    def captions(self) -> Sequence[str]:
        assert self.samples.captions is not None, "the dataset gives no captions"
        return self.samples.captions

    @property
    def languages(self) -> Sequence[str]:
        """b language codes; ``und`` where the dataset does not say."""
        return self.samples.languages if self.samples.languages is not None else ("und",) * len(self)

    @property
    def real(self) -> Pixels:
        """(b h w c) the images of the split."""
        assert self.samples.images is not None, "the dataset gives no images"
        return self.samples.images

    @cached_property
    def generated(self) -> Pixels:
        """(b h w c) drawn from the captions."""
        found: Pixels = frozen(self.draws(1)[0])
        return found

    def draws(self, count: int, items: int | None = None) -> npt.NDArray[np.uint8]:
        """(k b h w c) `count` drawings of each caption, or of the first `items`, each with noise of its own; the first is `generated`'s."""
        seed, numbers = derive_key(self.seed, self.split), [self.indices[:items] + k * (np.int64(1) << 40) for k in range(count)]
        return np.stack([self.model.generate(self.captions[:items], seed=seed, numbers=some, batch=self.batch) for some in numbers])

    @cached_property
    def read(self) -> Sequence[str]:
        """b captions read off the real images."""
        return tuple(self.model.caption(self.real, languages=self.samples.languages, batch=self.batch))

    @cached_property
    def reread(self) -> Sequence[str]:
        """b captions read off the generated images."""
        return tuple(self.model.caption(self.generated, languages=self.samples.languages, batch=self.batch))

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """Beginnings of the SHA-256 of the items' captions and images: equal where figures were measured against the same."""
        captions, images = self.samples.captions, self.samples.images
        data = {
            "captions": None if captions is None else "\n".join(captions).encode(),
            "images": None if images is None else images.tobytes(),
        }
        return MappingProxyType({name: hashlib.sha256(some).hexdigest()[:16] for name, some in data.items() if some is not None})


def evaluate(
    model: Model,
    dataset: Dataset,
    metrics: Mapping[str, Metric],
    split: str,
    *,
    items: int,
    seed: int = 0,
    batch: int = 128,
    checkpoint: Callable[[], None] = lambda: None,
    declared: Mapping[str, Sequence[str]] = MappingProxyType({}),
    strict: bool = True,
) -> tuple[dict[str, float], Evaluation]:
    """Figure name → value over all metrics, and the evaluation they were read off.

    Args:
        checkpoint: called between metrics; may raise.
        declared: metric → figures that it has to give.
        strict: a figure that is no finite number is an error; a notice otherwise.

    Raises:
        WrongAnswer: a metric gives something else than finite numbers, not all that it declares, or what another gave already.
    """
    evaluation = Evaluation(model, dataset, split, items=items, seed=seed, batch=batch)
    figures: dict[str, float] = {}
    for name, metric in metrics.items():
        found = metric.evaluate(evaluation)
        key, where = f"metrics.{name}", f"evaluate on {split!r} ({len(evaluation)} items) gave"
        if wrong := _wrong(found, declared.get(name, ()), figures):
            raise WrongAnswer(key, f"{where} {wrong}")
        if infinite := [f"{figure} = {value!r}" for figure, value in found.items() if not math.isfinite(value)]:
            wrong = f"{where} {infinite[0]}: expected a finite number"
            if strict:
                raise WrongAnswer(key, wrong)
            warnings.warn(Notice(f"{key}: {wrong}. The model is not trained yet; at the end it is an error"), stacklevel=2)
        figures |= {key: float(value) for key, value in found.items()}
        checkpoint()
    return figures, evaluation


def _wrong(found: Any, declared: Sequence[str], figures: Mapping[str, float]) -> str:
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        return f"a {type(found).__name__}: expected a table of figures by name"
    for name, value in found.items():
        if name in figures:
            return f"{name}, which another metric gave already"
        try:
            math.isfinite(value)
        except (TypeError, ValueError, OverflowError):
            return f"{name} = {value!r}: expected a finite number"
    missing = [name for name in declared if name not in found]
    return f"no {', '.join(missing)}, which its config's figures() names" if missing else ""


def records(metrics: Mapping[str, Metric], evaluation: Evaluation) -> dict[str, dict[str, str | int | float]]:
    """Metric name → how its figures came about. Raises `WrongAnswer` where that cannot be written as JSON."""
    found = {name: dict(metric.record(evaluation)) for name, metric in metrics.items()}
    for name, record in found.items():
        if wrong := [f"{key} = {value!r}" for key, value in record.items() if not isinstance(value, str | int | float)]:
            raise WrongAnswer(f"metrics.{name}", f"record gave {wrong[0]}: expected a string or a number")
    return found
