"""Questions read back by the grammar that wrote them and answered from the scene: a judge of questions and answers that learns nothing."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from ibllm_shapes.grammar import LANGUAGES, relation
from ibllm_shapes.questions import KINDS, WORDINGS, Wording
from ibllm_shapes.scenes import Scenes

Bool = npt.NDArray[np.bool_]


@attrs.frozen
class Question:
    """What a question means.

    Attributes:
        kind: a word of `ibllm_shapes.questions.KINDS`.
        language: whose words it uses, and its answers are to use.
        size, colour, shape, place: what it says of the objects it is about, places in the lists of `ibllm_shapes.scenes`; -1 where it says nothing.
    """

    kind: str
    language: str
    size: int = -1
    colour: int = -1
    shape: int = -1
    place: int = -1


def parse(question: str, placement: str) -> Question | None:
    """The meaning of a question about scenes of a placement; None if it is none of the questions that the dataset asks."""
    for kind, language, pattern in _patterns(placement):
        match = pattern.fullmatch(question)
        if match is not None:
            slots = _words(language)
            return Question(kind, language, **{slot: slots[slot].index(word) for slot, word in match.groupdict().items()})
    return None


def answers(question: Question, scenes: Scenes, index: int) -> frozenset[str]:
    """Every right answer to a question about the scene number `index`, in the question's language.

    None where the scene does not answer it: it speaks of an object that is not there, or that is not the only one. With free placement an object is where
    it lies to any other.
    """
    words, wording = LANGUAGES[question.language], WORDINGS[question.language]
    columns = (scenes.size, scenes.colour, scenes.shape, scenes.cell)
    objects: list[tuple[int, ...]] = list(zip(*(column[index].tolist() for column in columns), strict=True))[: int(scenes.count[index])]
    said = (question.size, question.colour, question.shape, question.place)
    fitting = [k for k, found in enumerate(objects) if all(is_said in (-1, value) for is_said, value in zip(said, found, strict=True))]
    if question.kind == "count":
        return frozenset({wording.numbers[len(fitting)]})
    if question.kind == "there":
        return frozenset({wording.yes if fitting else wording.no})
    if len(fitting) != 1:
        return frozenset()
    k = fitting[0]
    if question.kind == "colour":
        return frozenset({words.colours[objects[k][1]]})
    if question.kind == "shape":
        return frozenset({words.shapes[objects[k][2]]})
    if scenes.placement == "cells":
        return frozenset({words.cells[objects[k][3]]})
    return frozenset(_related(scenes, index, k, objects, question.language))


def answered_right(scenes: Scenes, questions: Sequence[str], given: Sequence[str]) -> Bool:
    """(b) whether answers are right; one to a question that the scene does not answer is not."""
    return np.array([one in right for one, right in zip(given, right_answers(scenes, questions), strict=True)], dtype=bool)


def right_answers(scenes: Scenes, questions: Sequence[str]) -> list[frozenset[str]]:
    """b times every right answer; none where a question is no sentence or the scene does not answer it."""
    read = [parse(question, scenes.placement) for question in questions]
    return [frozenset() if one is None else answers(one, scenes, i) for i, one in enumerate(read)]


def _related(scenes: Scenes, index: int, k: int, objects: Sequence[tuple[int, ...]], language: str) -> Iterator[str]:
    """How the object `k` lies to each of the others."""
    words, (x, y) = LANGUAGES[language], (scenes.x[index], scenes.y[index])
    for other, (size, colour, shape, _) in enumerate(objects):
        if other != k:
            phrase = words.phrase.format(size=words.sizes[size], colour=words.colours[colour], shape=words.shapes[shape])
            word = words.relations[relation(x[k], y[k], x[other], y[other])]
            yield WORDINGS[language].related.format(relation=word, object=phrase)


def _words(language: str) -> dict[str, Sequence[str]]:
    """Slot of a wording → the words that may stand there."""
    words = LANGUAGES[language]
    return {"size": words.sizes, "colour": words.colours, "shape": words.shapes, "place": words.cells}


@functools.cache
def _patterns(placement: str) -> tuple[tuple[str, str, re.Pattern[str]], ...]:
    """Every wording of every language as (kind, language, expression)."""
    return tuple(
        (kind, language, _pattern(template, language))
        for language, wording in WORDINGS.items()
        for kind, template in _templates(wording, placement)
    )


def _templates(wording: Wording, placement: str) -> list[tuple[str, str]]:
    """(kind, wording) of all that is asked about scenes of a placement."""
    every = [(kind, template) for kind in KINDS for template in getattr(wording, kind)]
    return [(kind, template) for kind, template in every if placement == "cells" or "{place}" not in template]


def _pattern(template: str, language: str) -> re.Pattern[str]:
    groups = {slot: f"(?P<{slot}>" + "|".join(map(re.escape, words)) + ")" for slot, words in _words(language).items()}
    parts = re.split(r"({\w+})", template.replace("{object}", LANGUAGES[language].phrase))
    text = "".join(groups[part[1:-1]] if part.startswith("{") else re.escape(part) for part in parts)
    return re.compile(f"{text}(?:{re.escape(WORDINGS[language].mark)})?")
