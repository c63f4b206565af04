"""The dataset `emoji_styles`: four artists' drawings of the same things. Torch-free.

Shapes: s styles, n concepts, b items, h w c pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm.plugin import Dataset, Samples, UserError, derive_key
from ibllm_emoji.config import EmojiStylesConfig
from ibllm_emoji.styles.archives import NAMES, PACKAGES, VERSIONS, find
from ibllm_emoji.styles.concepts import Artist, Concept, artists, concepts
from ibllm_emoji.styles.render import all_drawings, looks
from ibllm_emoji.styles.splits import Item, divide, hold_out
from ibllm_emoji.styles.wording import write

STYLES = tuple(PACKAGES)


@attrs.frozen(eq=False)
class Truth:
    """What the dataset knows about some items.

    Attributes:
        concepts, styles: (b) numbers.
        languages: b codes.
    """

    concepts: npt.NDArray[np.int64]
    styles: npt.NDArray[np.int64]
    languages: Sequence[str]


@attrs.frozen(eq=False)
class Gallery:
    """A config's drawings once rendered and divided.

    Attributes:
        artists: style → its package.
        concepts: n of them.
        images: (s n h w c), read-only.
        looks: (s n) equal within a style where drawings are the same to the eye.
        items: split → its items.
        left_out: split → how many of its items have a name with a word that is not trained, and are not among them.
    """

    artists: Mapping[str, Artist]
    concepts: Sequence[Concept]
    images: npt.NDArray[np.uint8]
    looks: npt.NDArray[np.int64]
    items: Mapping[str, Sequence[Item]]
    left_out: Mapping[str, int]


@lru_cache(maxsize=4)
def load_gallery(config: EmojiStylesConfig) -> Gallery:
    """Reads, renders and divides; once for a config and process.

    Raises:
        UserError: an archive is missing or damaged, the package resvg-py is, or nothing is left to train on.
    """
    archives = find(Path(config.path))
    drawn = artists(archives)
    things = concepts(archives, drawn, config.languages)
    if not things:
        raise UserError(f"{config.path}: no concept has a drawing in each of {', '.join(STYLES)} and a name in each language")
    images = all_drawings(archives, things, config.size)
    alike = looks(images)

    def key(*what: int | str) -> int:
        return derive_key("emoji_styles", config.holdout_seed, *what)

    items, left_out = divide(things, hold_out(things, alike, config, key), config, key)
    return Gallery(drawn, things, images, alike, items, left_out)


class EmojiStylesDataset(Dataset):
    """Things drawn by the artists of Noto, Twemoji, Fluent and OpenMoji, each with a caption that names thing and style. Nothing depends on the run's seed.

    Splits:

    - ``train``;
    - ``crossing``: things in the one style in which they were never seen; each was in the other three, and the style on other things;
    - ``concept``: things never seen in any style, of whose names every word was;
    - ``language``: things named in the one language in which they never were, where there are several languages;
    - ``crossing-validation``, ``concept-validation``, ``language-validation``: others, at which choices look.

    Which things are held out, and how, is drawn for each by a hash of its code points. A drawing that looks like another thing's in the
    same style is never held out. Names with a word that no training caption of their language has are left out of held-out splits.

    The items of a split come drawing by drawing, the languages taking turns, then again with the next language. `Samples.truth` is a `Truth`.
    """

    licence = "cc-by-sa-4.0"  # the strictest of the four

    def __init__(self, config: EmojiStylesConfig, context: Any) -> None:
        self.config = config
        self.image_shape = config.image_shape
        # The judge knows all training drawings, however many of them are trained on.
        self.gallery = load_gallery(attrs.evolve(config, train_share=1.0))

    def sizes(self) -> Mapping[str, int]:
        sizes = {split: len(items) for split, items in self.gallery.items.items()}
        return sizes | {"train": math.ceil(self.config.train_share * sizes["train"])}

    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        found = self.gallery
        if split not in found.items:
            raise KeyError(f"emoji_styles has no split {split!r}: expected one of {', '.join(found.items)}")
        indices = np.atleast_1d(np.asarray(indices, dtype=np.int64))
        items = [found.items[split][i] for i in indices.tolist()]
        numbers, styles = (np.array([item[place] for item in items], dtype=np.int64) for place in (0, 1))
        languages = [code for _, _, code in items]
        return Samples(
            indices=indices,
            images=found.images[styles, numbers],
            captions=[write(found.concepts[number].names[code], STYLES[style], code) for number, style, code in items],
            languages=languages,
            groups=styles * len(found.concepts) + found.looks[styles, numbers],
            truth=Truth(numbers, styles, languages),
        )

    def notes(self) -> Sequence[str]:
        """What held-out splits leave out, and packages of other versions than those that the documented figures were measured with."""
        notes = [
            f"emoji_styles: {count} items are left out of {split}: their names have words that no training caption of their language has"
            for split, count in self.gallery.left_out.items()
        ]
        found = {PACKAGES[style]: artist.version for style, artist in self.gallery.artists.items()}
        other = [
            f"{package} {version} (measured with {VERSIONS[package]})" for package, version in found.items() if version != VERSIONS[package]
        ]
        return [*notes, f"emoji_styles: {', '.join(other)}: figures are of other drawings than the documented ones"] if other else notes

    def attribution(self) -> str:
        by = []
        for artist in self.gallery.artists.values():
            title, author, licence = (artist.about[key] for key in ("name", "author", "license"))
            by.append(
                f"{title} by {author['name']} ({author['url']}), {licence['title']} ({licence['url']}), "
                f"from the package {PACKAGES[artist.style]} {artist.version}"
            )
        size = f"{self.config.size}×{self.config.size}"
        return f"Drawings, rendered at {size} pixels: {'; '.join(by)}. Names: Unicode CLDR, from the package {NAMES} by Miles Johnson, MIT."
