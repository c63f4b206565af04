"""The dataset `openmoji`: drawings and their human-written names. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm.plugin import Dataset, Samples, UserError, derive_key
from ibllm_emoji.config import OpenmojiConfig
from ibllm_emoji.openmoji.catalogue import Drawing, catalogue, packages, subset, words
from ibllm_emoji.openmoji.render import near_duplicates, render
from ibllm_emoji.openmoji.splits import assign_splits, components


@attrs.frozen(eq=False)
class Truth:
    """What the dataset knows about some items.

    Attributes:
        drawings: b drawings.
        identity: (b) equal numbers for drawings that are the same to the eye, whatever their names.
    """

    drawings: Sequence[Drawing]
    identity: npt.NDArray[np.int64]


@attrs.frozen(eq=False)
class Collection:
    """A config's drawings once rendered and split: images (n h w 3), identity (n), and split → its items (drawing, language)."""

    drawings: Sequence[Drawing]
    images: npt.NDArray[np.uint8]
    identity: npt.NDArray[np.int64]
    items: Mapping[str, Sequence[tuple[int, str]]]


@lru_cache(maxsize=4)
def load_collection(config: OpenmojiConfig) -> Collection:
    """Reads, renders and splits; once for a config and process."""
    found = catalogue({"en", *config.languages})
    drawings = subset(found, config, {d.base: derive_key("openmoji", "subset", config.subset_seed, d.base) for d in found})
    if not drawings:
        raise UserError(f"openmoji: no drawing is left with min_uses = {config.min_uses}")
    images = render([d.text for d in drawings], config.size, config.background)
    images.setflags(write=False)
    pairs = near_duplicates(images)
    parts = assign_splits(drawings, pairs, config, lambda text: derive_key("openmoji", "holdout", config.holdout_seed, text))
    vocabulary = {
        language: {w for i in parts["train"] for w in words(drawings[i].names[language], language)} for language in config.languages
    }
    items = {}
    for split, members in parts.items():
        order = sorted(members, key=lambda i: derive_key("openmoji", "order", drawings[i].text))
        rounds = [
            (i, config.languages[(n + turn) % len(config.languages)]) for turn in range(len(config.languages)) for n, i in enumerate(order)
        ]
        items[split] = [(i, code) for i, code in rounds if vocabulary[code].issuperset(words(drawings[i].names[code], code))]
    return Collection(drawings, images, np.array(components(len(drawings), pairs), dtype=np.int64), items)


class OpenmojiDataset(Dataset):
    """Drawings of OpenMoji 17 with their names; an item is a drawing and its name in one language. Nothing depends on the run's seed.

    Splits:

    - ``train``;
    - ``tone``: persons and hands trained in other skin tones, in one in which they were never seen; ``tone-validation``: others;
    - ``concept``: bases never seen in any tone, a tenth of those whose every word is trained; ``concept-validation``: others.

    Choices (early stopping, best weights) look at the validation splits only. Drawings that are the same to the eye share a split. Every word of a
    held-out name occurs in a training name of its language; names for which that is not so in their language are left out.

    The items of a split come drawing by drawing, the languages taking turns, then again with the next language: the first n of a
    split are n different drawings as long as it has so many. `Samples.truth` is a `Truth`.
    """

    licence = "cc-by-sa-4.0"

    def __init__(self, config: OpenmojiConfig, context: Any) -> None:
        self.config = config
        self.image_shape = config.image_shape
        self.collection = load_collection(config)

    def sizes(self) -> Mapping[str, int]:
        return {split: len(items) for split, items in self.collection.items.items()}

    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        found = self.collection
        if split not in found.items:
            raise KeyError(f"openmoji has no split {split!r}: expected one of {', '.join(found.items)}")
        indices = np.atleast_1d(np.asarray(indices, dtype=np.int64))
        items = [found.items[split][i] for i in indices.tolist()]
        drawings = [found.drawings[i] for i, _ in items]
        places = np.array([i for i, _ in items], dtype=np.int64)
        return Samples(
            indices=indices,
            images=found.images[places],
            captions=[drawing.names[code] for drawing, (_, code) in zip(drawings, items, strict=True)],
            languages=[code for _, code in items],
            groups=found.identity[places],
            truth=Truth(drawings, found.identity[places]),
        )

    def attribution(self) -> str:
        openmoji, emoji = packages()
        return (
            f"Drawings: OpenMoji {openmoji.__version__} (https://openmoji.org), the open-source emoji and icon project, CC BY-SA 4.0 "
            f"(https://creativecommons.org/licenses/by-sa/4.0/), rendered at {self.config.size}×{self.config.size} pixels. "
            f"Names: Unicode CLDR, from the Python package emoji {emoji.__version__}."
        )
