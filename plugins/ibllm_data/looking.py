"""A recipe's data, looked at: splits, images, captions, vocabularies, duplicates and what is broken. Shapes: b items, h w c an image."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import attrs
import numpy as np
import numpy.typing as npt

from ibllm.data_notes import Incomplete, Noted, empty_split
from ibllm.data_prints import prints
from ibllm.images.facts import Facts
from ibllm.languages import scripts
from ibllm.vocabulary import Reading, read, texts_of
from ibllm_core.errors import UserError
from ibllm_core.host.options import DatasetConfig
from ibllm_core.interfaces.batch import take
from ibllm_core.interfaces.dataset import Dataset, Samples
from ibllm_core.interfaces.tokenizer import Tokenizer
from ibllm_core.recipe.schema import Recipe

Pixels = npt.NDArray[np.uint8]
#: Items of a split that are shown, and examples of what is counted.
SHOWN, EXAMPLES = 12, 5


@runtime_checkable
class Original(Protocol):
    """A dataset that knows its images as they lie in their files."""

    def facts(self) -> Facts:
        """Of every image."""


@attrs.frozen(kw_only=True, eq=False)
class Split:
    """One split.

    Attributes:
        holds: what it is for, in words.
        items: how many it has.
        looked: how many of them were looked at, from its beginning.
        images, captions: how many different ones these have.
        leaked_images, leaked_captions: how many of these items have an image, or a caption, of those that were looked at in train.
        languages, scripts: code, or script, → items that have it.
        readings: tokenizer → what it makes of the split's texts.
        repeats: examples of images that several items have, each the captions.
        shown: the first items as the model sees them: (pixels (h w c) or None, caption, language).
    """

    name: str
    holds: str
    items: int
    looked: int
    images: int | None
    captions: int | None
    leaked_images: int
    leaked_captions: int
    languages: Mapping[str, int]
    scripts: Mapping[str, int]
    readings: Mapping[str, Reading]
    repeats: Sequence[str]
    shown: Sequence[tuple[Pixels | None, str, str]]


@attrs.frozen(kw_only=True, eq=False)
class Data:
    """The data at one place of a recipe: ``data``, ``unpaired.text`` or ``unpaired.images``."""

    place: str
    use: str
    provider: str
    fingerprint: str
    licence: str
    attribution: str
    shape: tuple[int, int, int]
    fitting: str
    splits: Sequence[Split]
    facts: Facts | None
    notes: Sequence[str]
    left_out: Sequence[str]


@attrs.frozen(kw_only=True, eq=False)
class Look:
    """All data of a recipe.

    Attributes:
        tokenizers: name → (ids that the recipe allows, `max_length`, who uses it).
        refused: why a run would be refused, a sentence each.
    """

    recipe: str
    data: Sequence[Data]
    tokenizers: Mapping[str, tuple[int, int, Sequence[str]]]
    refused: Sequence[str]


def look(recipe: Recipe, items: int) -> Look:
    """Builds the recipe's data and vocabularies, and looks at so many items of each split, and at all of its texts.

    Raises:
        UserError: the data cannot be built.
    """
    from ibllm_core.model import build

    dataset, unpaired = build.build_dataset(recipe), {name: build.build_dataset(recipe, name) for name in recipe.unpaired}
    refused, tokenizers = [], dict[str, Tokenizer]()
    if empty := empty_split(recipe, dataset, unpaired.get("text")):
        refused.append(str(empty))
    try:
        tokenizers = build.build_tokenizers(recipe, [dataset, *(other for name, other in unpaired.items() if name == "text")])
    except UserError as error:
        refused.append(str(error))
    users = {name: [part for part, one in recipe.parts.items() if getattr(one.config, "tokenizer", "") == name] for name in tokenizers}
    found = prints(recipe)
    places = {"data": (dataset, recipe.data), **{f"unpaired.{name}": (unpaired[name], recipe.unpaired[name]) for name in unpaired}}
    return Look(
        recipe=recipe.name,
        data=[_data(place, one, component, tokenizers, items, found[place].digest) for place, (one, component) in places.items()],
        tokenizers={name: (one.size, one.max_length, users[name]) for name, one in tokenizers.items()},
        refused=refused,
    )


def _data(place: str, dataset: Dataset, component: Any, tokenizers: Mapping[str, Tokenizer], items: int, fingerprint: str) -> Data:
    config, sizes = component.config, dataset.sizes()
    told = config.splits() if isinstance(config, DatasetConfig) else {}
    seen: dict[str, _Seen] = {}
    for name, size in sorted(sizes.items(), key=lambda entry: entry[0] != "train"):
        samples = take(dataset, name, np.arange(min(items, size), dtype=np.int64), place)
        seen[name] = _Seen(samples, texts_of(dataset, name) if size else [])
    how, background = config.fitting() if isinstance(config, DatasetConfig) else ("", ())
    return Data(
        place=place,
        use=component.use,
        provider=f"{component.distribution} {component.version}",
        fingerprint=fingerprint,
        licence=dataset.licence,
        attribution=dataset.attribution() or "",
        shape=tuple(dataset.image_shape),  # type: ignore[arg-type]
        fitting={"crop": "the middle square", "pad": f"the whole image, with bars of {background}"}.get(how, how),
        splits=[_split(name, told.get(name, ""), sizes[name], one, seen["train"], tokenizers) for name, one in seen.items()],
        facts=dataset.facts() if isinstance(dataset, Original) else None,
        notes=list(dataset.notes()) if isinstance(dataset, Noted) else [],
        left_out=list(dataset.left_out()) if isinstance(dataset, Incomplete) else [],
    )


class _Seen:
    """Items of a split: the samples, what their pixels and captions are, and all texts of the split."""

    def __init__(self, samples: Samples, texts: Sequence[str]) -> None:
        self.samples, self.texts = samples, texts
        images = samples.images
        self.pictures = None if images is None else [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]

    @property
    def captions(self) -> Sequence[str]:
        return self.samples.captions or ()


def _split(name: str, holds: str, items: int, seen: _Seen, train: _Seen, tokenizers: Mapping[str, Tokenizer]) -> Split:
    samples, captions, pictures = seen.samples, seen.captions, seen.pictures
    codes = Counter(samples.languages or ())
    return Split(
        name=name,
        holds=holds,
        items=items,
        looked=len(samples),
        images=None if pictures is None else len(set(pictures)),
        captions=None if samples.captions is None else len(set(captions)),
        leaked_images=0 if seen is train else sum(one in set(train.pictures or ()) for one in pictures or ()),
        leaked_captions=0 if seen is train else sum(one in set(train.captions) for one in captions),
        languages=dict(codes.most_common()),
        scripts=dict(Counter(script for caption in captions for script in scripts(caption)).most_common()),
        readings={key: read(seen.texts, tokenizer) for key, tokenizer in tokenizers.items() if seen.texts},
        repeats=_repeats(seen),
        shown=[_shown(samples, row) for row in range(min(SHOWN, len(samples)))],
    )


def _repeats(seen: _Seen) -> list[str]:
    """Examples of pictures that several items have though the data do not say that they are one."""
    if seen.pictures is None:
        return []
    groups = seen.samples.groups
    rows: dict[bytes, list[int]] = {}
    for row, picture in enumerate(seen.pictures):
        rows.setdefault(picture, []).append(row)
    several = [some for some in rows.values() if len(some) > 1 and (groups is None or len(set(groups[some].tolist())) > 1)]
    return [
        f"items {', '.join(map(str, some[:4]))}{', …' if len(some) > 4 else ''} are one picture"
        + (f": {seen.captions[some[0]]!r}" if seen.captions else "")
        for some in several[:EXAMPLES]
    ]


def _shown(samples: Samples, row: int) -> tuple[Pixels | None, str, str]:
    return (
        None if samples.images is None else samples.images[row],
        samples.captions[row] if samples.captions else "",
        samples.languages[row] if samples.languages else "und",
    )
