"""Questions about scenes and their answers, in every language of the grammar."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from ibllm_shapes.grammar import LANGUAGES, phrases, relation
from ibllm_shapes.scenes import COLOURS, SHAPES, SIZES, Scenes

#: What is asked about.
KINDS = ("colour", "shape", "count", "there", "where")


@attrs.frozen
class Wording:
    """How one language asks; the words in the slots are those of its captions.

    Attributes:
        colour, shape: by the place of the object (placement "cells") and by its other traits (placement "free").
        count: of all objects, of a colour, of a shape.
        there, where: of an object with all its traits.
        numbers: answers from none to three.
        yes, no: answers.
        related: the answer where there are no cells; slots as in the grammar.
    """

    colour: tuple[str, str]
    shape: tuple[str, str]
    count: tuple[str, str, str]
    there: str
    where: str
    numbers: Sequence[str]
    yes: str
    no: str
    related: str


WORDINGS: Mapping[str, Wording] = {
    "en": Wording(
        colour=("what colour is the object at the {place}", "what colour is the {size} {shape}"),
        shape=("what shape is the object at the {place}", "what shape is the {size} {colour} object"),
        count=("how many objects are there", "how many objects are {colour}", "how many objects have the shape of a {shape}"),
        there="is there {object}",
        where="where is the {size} {colour} {shape}",
        numbers=("none", "one", "two", "three"),
        yes="yes",
        no="no",
        related="{relation} {object}",
    ),
    "zh": Wording(
        colour=("{place}的物体是什么颜色", "{size}{shape}是什么颜色"),
        shape=("{place}的物体是什么形状", "{colour}的{size}物体是什么形状"),
        count=("有几个物体", "有几个{colour}的物体", "有几个{shape}"),
        there="有{object}吗",
        where="{colour}的{size}{shape}在哪里",
        numbers=("零个", "一个", "两个", "三个"),
        yes="有",
        no="没有",
        related="在{object}的{relation}",
    ),
}

_Traits = tuple[int, int, int]


def ask(
    scenes: Scenes,
    languages: Sequence[str],
    draws: npt.NDArray[np.float64],
    pairs: Sequence[tuple[int, int]],
    kinds: Collection[tuple[int, ...]] = (),
) -> tuple[list[str], list[str]]:
    """b questions and their b answers.

    A colour, shape or place is only asked for where the description fits one object; otherwise the objects are counted.

    Args:
        draws: (b 5) uniform in [0, 1): the kind, the object asked about, and what else is to be chosen.
        pairs: (colour, shape) that a question about an absent object may name, so that none gives a held-out pair away.
        kinds: (colour, shape, size) that it may name, where sizes are held out too; each pair has one.
    """
    questions, answers = [], []
    for i, code in enumerate(languages):
        question, answer = _Question(scenes, i, code).ask(draws[i].tolist(), pairs, kinds)
        questions.append(question)
        answers.append(answer)
    return questions, answers


class _Question:
    """One scene, asked about in one language."""

    def __init__(self, scenes: Scenes, index: int, code: str) -> None:
        self.scenes, self.index = scenes, index
        self.words, self.wording, self.code = LANGUAGES[code], WORDINGS[code], code
        columns = (scenes.size[index].tolist(), scenes.colour[index].tolist(), scenes.shape[index].tolist())
        self.objects: list[_Traits] = list(zip(*columns, strict=True))[: int(scenes.count[index])]
        self.cells = scenes.placement == "cells"

    def ask(self, draws: Sequence[float], pairs: Sequence[tuple[int, int]], kinds: Collection[tuple[int, ...]]) -> tuple[str, str]:
        kind = KINDS[int(draws[0] * len(KINDS))]
        k = int(draws[1] * len(self.objects))
        size, pair = int(draws[3] * len(SIZES)), pairs[int(draws[4] * len(pairs))]
        other: _Traits = (size if not kinds or (*pair, size) in kinds else 1 - size, *pair)
        if kind == "there":
            return self._existence(other if draws[2] < 0.5 else self.objects[k])
        if kind in ("colour", "shape"):
            return self._trait(kind, k) or self._count(other, 0)
        if kind == "where":
            return self._position(k) or self._count(other, 0)
        return self._count(other if draws[3] < 0.5 else self.objects[k], int(draws[2] * 3))

    def _slots(self, traits: _Traits) -> dict[str, str]:
        size, colour, shape = traits
        return {
            "size": self.words.sizes[size],
            "colour": self.words.colours[colour],
            "shape": self.words.shapes[shape],
            "object": phrases(self.code)[(size * len(COLOURS) + colour) * len(SHAPES) + shape],
        }

    def _trait(self, kind: str, k: int) -> tuple[str, str] | None:
        slots = self._slots(self.objects[k])
        by_place, by_traits = self.wording.colour if kind == "colour" else self.wording.shape
        if self.cells:
            return by_place.format(place=self.words.cells[self.scenes.cell[self.index, k]]), slots[kind]
        asked = 1 if kind == "colour" else 2
        known = [traits[:asked] + traits[asked + 1 :] for traits in self.objects]
        return (by_traits.format(**slots), slots[kind]) if known.count(known[k]) == 1 else None

    def _count(self, traits: _Traits, what: int) -> tuple[str, str]:
        number = (
            len(self.objects),
            sum(other[1] == traits[1] for other in self.objects),
            sum(other[2] == traits[2] for other in self.objects),
        )
        return self.wording.count[what].format(**self._slots(traits)), self.wording.numbers[number[what]]

    def _existence(self, traits: _Traits) -> tuple[str, str]:
        return self.wording.there.format(**self._slots(traits)), self.wording.yes if traits in self.objects else self.wording.no

    def _position(self, k: int) -> tuple[str, str] | None:
        traits = self.objects[k]
        if self.objects.count(traits) > 1 or (not self.cells and len(self.objects) == 1):
            return None
        question = self.wording.where.format(**self._slots(traits))
        if self.cells:
            return question, self.words.cells[self.scenes.cell[self.index, k]]
        # Neighbours in the scene's order lie clearly apart along one axis; other objects need not.
        other = k + 1 if k + 1 < len(self.objects) else k - 1
        x, y = self.scenes.x[self.index], self.scenes.y[self.index]
        word = self.words.relations[relation(x[k], y[k], x[other], y[other])]
        return question, self.wording.related.format(relation=word, object=self._slots(self.objects[other])["object"])
