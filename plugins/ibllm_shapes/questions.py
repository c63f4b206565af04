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
        colour, shape: by the place of the object (with placement "cells"), by its other traits, by one of them.
        count: of all objects, of a colour, of a shape.
        there: of an object with all its traits, with a shape, with a colour.
        where: by all traits, by two, by one.
        numbers: answers from none to three.
        yes, no: answers.
        related: the answer where there are no cells; slots as in the grammar.
        mark: may end a question.
    """

    colour: tuple[str, str, str]
    shape: tuple[str, str, str]
    count: tuple[str, str, str]
    there: tuple[str, str, str]
    where: tuple[str, str, str]
    numbers: Sequence[str]
    yes: str
    no: str
    related: str
    mark: str


WORDINGS: Mapping[str, Wording] = {
    "en": Wording(
        colour=("what colour is the object at the {place}", "what colour is the {size} {shape}", "what colour is the {shape}"),
        shape=("what shape is the object at the {place}", "what shape is the {size} {colour} object", "what shape is the {colour} object"),
        count=("how many objects are there", "how many objects are {colour}", "how many objects have the shape of a {shape}"),
        there=("is there {object}", "is there a {shape}", "is there anything {colour}"),
        where=("where is the {size} {colour} {shape}", "where is the {colour} {shape}", "where is the {shape}"),
        numbers=("none", "one", "two", "three"),
        yes="yes",
        no="no",
        related="{relation} {object}",
        mark="?",
    ),
    "zh": Wording(
        colour=("{place}的物体是什么颜色", "{size}{shape}是什么颜色", "{shape}是什么颜色"),
        shape=("{place}的物体是什么形状", "{colour}的{size}物体是什么形状", "{colour}的物体是什么形状"),
        count=("有几个物体", "有几个{colour}的物体", "有几个{shape}"),
        there=("有{object}吗", "有{shape}吗", "有{colour}的物体吗"),
        where=("{colour}的{size}{shape}在哪里", "{colour}的{shape}在哪里", "{shape}在哪里"),
        numbers=("零个", "一个", "两个", "三个"),
        yes="有",
        no="没有",
        related="在{object}的{relation}",
        mark="？",
    ),
}

_Traits = tuple[int, int, int]
#: The slots of `_Traits`, in their order.
_TRAITS = ("size", "colour", "shape")


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
        draws: (b 5) uniform in [0, 1): the kind, the object asked about, and what else is to be chosen; (b 7) with a choice of wordings and marks.
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
        wordings = draws[5] if len(draws) > 5 else None
        if kind == "there":
            asked = self._existence(other if draws[2] < 0.5 else self.objects[k], wordings)
        elif kind == "count":
            asked = self._count(other if draws[3] < 0.5 else self.objects[k], int(draws[2] * 3))
        else:
            asked = self._about(kind, k, wordings) or self._count(other, 0)
        return (asked[0] + self.wording.mark, asked[1]) if wordings is not None and draws[6] < 0.5 else asked

    def _slots(self, traits: _Traits) -> dict[str, str]:
        size, colour, shape = traits
        return {
            "size": self.words.sizes[size],
            "colour": self.words.colours[colour],
            "shape": self.words.shapes[shape],
            "object": phrases(self.code)[(size * len(COLOURS) + colour) * len(SHAPES) + shape],
        }

    def _about(self, kind: str, k: int, choice: float | None) -> tuple[str, str] | None:
        """Asks for a trait or the place of the object `k` in a wording that fits it alone; None where none does."""
        templates: tuple[str, ...] = getattr(self.wording, kind)
        if choice is None:
            templates = templates[1:2] if kind != "where" and not self.cells else templates[:1]
        fitting = [template for template in templates if self._fits_alone(template, k)]
        if not fitting or (kind == "where" and not self.cells and len(self.objects) == 1):
            return None
        slots = self._slots(self.objects[k])
        place = self.words.cells[self.scenes.cell[self.index, k]] if self.cells else ""
        question = fitting[int((choice or 0) * len(fitting))].format(place=place, **slots)
        return question, slots[kind] if kind != "where" else place or self._relation(k)

    def _fits_alone(self, template: str, k: int) -> bool:
        """Whether what a wording says of the object `k` is true of no other."""
        if "{place}" in template:
            return self.cells
        return sum(_alike(template, self.objects[k], other) for other in self.objects) == 1

    def _count(self, traits: _Traits, what: int) -> tuple[str, str]:
        number = (
            len(self.objects),
            sum(other[1] == traits[1] for other in self.objects),
            sum(other[2] == traits[2] for other in self.objects),
        )
        return self.wording.count[what].format(**self._slots(traits)), self.wording.numbers[number[what]]

    def _existence(self, traits: _Traits, choice: float | None) -> tuple[str, str]:
        template = self.wording.there[int((choice or 0) * len(self.wording.there))]
        there = any(_alike(template, traits, other) for other in self.objects)
        return template.format(**self._slots(traits)), self.wording.yes if there else self.wording.no

    def _relation(self, k: int) -> str:
        # Neighbours in the scene's order lie clearly apart along one axis; other objects need not.
        other = k + 1 if k + 1 < len(self.objects) else k - 1
        x, y = self.scenes.x[self.index], self.scenes.y[self.index]
        word = self.words.relations[relation(x[k], y[k], x[other], y[other])]
        return self.wording.related.format(relation=word, object=self._slots(self.objects[other])["object"])


def _alike(template: str, one: _Traits, other: _Traits) -> bool:
    """Whether two objects are alike in the traits that a wording names."""
    whole = "{object}" in template
    return all(a == b for slot, a, b in zip(_TRAITS, one, other, strict=True) if whole or f"{{{slot}}}" in template)
