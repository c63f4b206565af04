"""Which captions are of which images among measured items, and the references that an image has. Torch-free. Shapes: b items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation

Numbers = npt.NDArray[np.int64]


def numbered(values: list[str] | list[bytes]) -> Numbers:
    """Equal numbers for equal values."""
    known: dict[str | bytes, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)


def images(evaluation: Evaluation) -> Numbers:
    """(b) equal numbers for items of one image: those that the data say are of one, and those of equal pixels."""
    return numbered([image.tobytes() for image in evaluation.real])


def texts(evaluation: Evaluation) -> Numbers:
    """(b) equal numbers for equal captions."""
    return numbered(list(evaluation.captions))


def right(texts: Numbers, images: Numbers) -> npt.NDArray[np.bool_]:
    """(b b) True where the caption of the row is one of the image of the column: some item has these words and that image."""
    pairs = np.zeros((texts.max(initial=-1) + 1, images.max(initial=-1) + 1), dtype=np.bool_)
    pairs[texts, images] = True
    return pairs[texts][:, images]


def references(evaluation: Evaluation) -> list[tuple[int, list[str]]]:
    """Of every image and language once: the first item of it (its row), and the captions of all its items in the language.

    Where the data do not say which items are of one image (`Samples.groups`), each is of its own.
    """
    groups = evaluation.samples.groups
    if groups is None:
        return [(row, [caption]) for row, caption in enumerate(evaluation.captions)]
    found: dict[tuple[int, str], tuple[int, list[str]]] = {}
    for row, (group, code, caption) in enumerate(zip(groups.tolist(), evaluation.languages, evaluation.captions, strict=True)):
        found.setdefault((group, code), (row, []))[1].append(caption)
    return list(found.values())
