"""Questions are read back by the grammar, answered from the scene, and judged; no network does any of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest
from ibllm_shapes.asked import AnswersMetric, QuestionsMetric, total_variation
from ibllm_shapes.config import AnswersConfig, QuestionsConfig, ShapesConfig
from ibllm_shapes.dataset import ShapesDataset
from ibllm_shapes.judge import Question, answered_right, answers, parse, right_answers
from ibllm_shapes.questions import KINDS, WORDINGS
from ibllm_shapes.scenes import Scenes

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.dataset import Samples

PLACEMENTS, LANGUAGES = ("cells", "free"), ("en", "zh")


def samples(placement: str = "cells", split: str = "novel", number: int = 600, **options: Any) -> Samples:
    return ShapesDataset(ShapesConfig(placement=placement, languages=LANGUAGES, questions=True, **options), Context()).samples(
        split, np.arange(number)
    )


@pytest.mark.parametrize("wordings", ["canonical", "varied"])
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("split", ["train", "novel", "open"])
def test_every_question_is_read_back_and_its_answer_is_right(placement: str, split: str, wordings: str) -> None:
    found = samples(placement, split, 400, wordings=wordings)
    read = [parse(question, found.truth.placement) for question in found.questions]
    assert {(one.kind, one.language) for one in read} == set(itertools.product(KINDS, LANGUAGES))
    assert [one.language for one in read] == list(found.languages)
    assert answered_right(found.truth, found.questions, found.answers).all()


MEANT: Mapping[str, tuple[dict[str, int], ...]] = {
    "colour": ({"place": 1}, {"size": 1, "shape": 5}, {"shape": 5}),
    "shape": ({"place": 1}, {"size": 1, "colour": 0}, {"colour": 0}),
    "count": ({}, {"colour": 0}, {"shape": 5}),
    "there": ({"size": 1, "colour": 0, "shape": 5}, {"shape": 5}, {"colour": 0}),
    "where": ({"size": 1, "colour": 0, "shape": 5}, {"colour": 0, "shape": 5}, {"shape": 5}),
}


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_question_says_to_its_reader_what_its_words_say(placement: str, kind: str) -> None:
    words = {"en": ("small", "red", "ring", "top right", "a small red ring"), "zh": ("小", "红色", "圆环", "右上角", "一个红色的小圆环")}
    for code in LANGUAGES:
        slots = dict(zip(("size", "colour", "shape", "place", "object"), words[code], strict=True))
        for template, meant in zip(getattr(WORDINGS[code], kind), MEANT[kind], strict=True):
            expected = None if "place" in meant and placement == "free" else Question(kind, code, **meant)
            assert parse(template.format(**slots), placement) == expected
            assert parse(template.format(**slots) + WORDINGS[code].mark, placement) == expected


def test_varied_wordings_are_all_used_and_change_nothing_else() -> None:
    plain, varied = samples(number=500), samples(number=500, wordings="varied")
    assert plain.captions == varied.captions
    marks = [question[-1] in "?？" for question in varied.questions]
    assert 0.4 < sum(marks) / 500 < 0.6 and not any(question[-1] in "?？" for question in plain.questions)
    slots = ("size", "colour", "shape", "place")
    read = [parse(question, "cells") for question in varied.questions]
    said = {(one.kind, *(getattr(one, slot) >= 0 for slot in slots)) for one in read}
    assert said == {(kind, *(slot in meant for slot in slots)) for kind, every in MEANT.items() for meant in every}


@pytest.mark.parametrize(
    "text", ["", "what", "what colour is the object at the middle", "is there a red ring", "how many objects are there??", "有几个"]
)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_what_the_data_do_not_ask_is_no_question(text: str, placement: str) -> None:
    assert parse(text, placement) is None


def scene(objects: list[tuple[int, int, int, int]], x: list[float], y: list[float], placement: str) -> Scenes:
    """One scene of (size, colour, shape, place)."""
    missing = 3 - len(objects)
    size, colour, shape, cell = (np.array([[*column, *[-1] * missing]]) for column in zip(*objects, strict=True))
    centres = (np.array([[*values, *[np.nan] * missing]]) for values in (x, y))
    return Scenes(np.array([len(objects)]), colour, shape, size, cell, *centres, image_size=32, placement=placement)


def test_answers_in_cells() -> None:
    """A large red circle at the top left and two small blue squares: at the top right and at the bottom left."""
    drawn = scene([(0, 0, 0, 0), (1, 2, 1, 1), (1, 2, 1, 2)], [8, 24, 8], [8, 8, 24], "cells")

    def said(kind: str, code: str = "en", **what: int) -> set[str]:
        return set(answers(Question(kind, code, **what), drawn, 0))

    assert said("colour", place=0) == {"red"} and said("shape", "zh", place=2) == {"正方形"}
    assert said("colour", place=3) == said("shape", place=3) == set()
    assert said("count") == {"three"} and said("count", colour=2) == {"two"} and said("count", "zh", shape=5) == {"零个"}
    assert said("there", size=1, colour=2, shape=1) == {"yes"} and said("there", "zh", size=0, colour=2, shape=1) == {"没有"}
    assert said("where", size=0, colour=0, shape=0) == {"top left"}
    assert said("where", size=1, colour=2, shape=1) == set(), "there are two of them"
    assert said("where", size=1, colour=0, shape=0) == set(), "there is none"
    questions = ["where is the large red circle", "where is the small blue square", "左上角的物体是什么颜色", "what is there"]
    drawn = scene([(0, 0, 0, 0)], [8], [8], "cells")
    four = Scenes(*(np.repeat(getattr(drawn, n), 4, 0) for n in ("count", "colour", "shape", "size", "cell", "x", "y")), 32, "cells")
    assert [set(right) for right in right_answers(four, questions)] == [{"top left"}, set(), {"红色"}, set()]
    assert answered_right(four, questions, ["top left", "top left", "red", ""]).tolist() == [True, False, False, False]


def test_answers_in_free_places() -> None:
    """A large red circle left of a small blue square, below which there is a small red ring."""
    drawn = scene([(0, 0, 0, -1), (1, 0, 5, -1), (1, 2, 1, -1)], [6, 25, 24], [8, 27, 9], "free")
    assert answers(Question("colour", "en", size=0, shape=0), drawn, 0) == {"red"}
    assert answers(Question("shape", "en", size=1, colour=0), drawn, 0) == {"ring"}
    assert answers(Question("shape", "en", size=0, colour=2), drawn, 0) == set()
    square = Question("where", "en", size=1, colour=2, shape=1)
    assert answers(square, drawn, 0) == {"right of a large red circle", "above a small red ring"}
    assert answers(Question("where", "zh", size=1, colour=2, shape=1), drawn, 0) == {"在一个红色的大圆形的右边", "在一个红色的小圆环的上方"}
    alone = scene([(0, 0, 0, -1)], [6], [8], "free")
    assert answers(Question("where", "en", size=0, colour=0, shape=0), alone, 0) == set(), "it lies to nothing"


@pytest.mark.parametrize("split", ["train", "test", "novel", "novel-shape", "novel-size"])
def test_questions_name_no_size_that_is_held_out(split: str) -> None:
    data = ShapesDataset(ShapesConfig(questions=True, held_out="colour-shape-size"), Context())
    read = [parse(question, "cells") for question in data.samples(split, np.arange(3000)).questions]
    named = {(one.colour, one.shape, one.size) for one in read if one.kind in ("there", "where")}
    assert named and named <= {*data.sampler.held.kinds, *data.sampler.held.special.get(split, [])}


class Answering:
    """Asks what the data ask, and says of an image what is right of its scene."""

    def __init__(self, found: Samples, **changes: Any) -> None:
        self.found, self.changes = found, changes

    def ask(self, images: Any, *, seed: int, numbers: Any, batch: int) -> list[str]:
        return list(self.changes.get("asked", self.found.questions))

    def answer(self, images: Any, questions: list[str], *, batch: int) -> list[str]:
        place = {image.tobytes(): row for row, image in enumerate(self.found.images)}
        read = [parse(question, "cells") for question in questions]
        right = [answers(one, self.found.truth, place[image.tobytes()]) if one else () for one, image in zip(read, images, strict=True)]
        return [min(some, default="nothing") for some in right]


class Evaluated(SimpleNamespace):
    """What metrics ask of an evaluation."""

    def __init__(self, number: int = 150, **changes: Any) -> None:
        found = samples(number=number)
        super().__init__(samples=found, captions=found.captions, real=found.images, model=Answering(found, **changes))
        self.indices = found.indices
        self.seed, self.split, self.batch, self.shared = 0, "novel", 128, dict[str, Any]()

    def __len__(self) -> int:
        return len(self.samples.indices)

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        if name not in self.shared:
            self.shared[name] = compute()
        return self.shared[name]


def test_who_sees_answers_right_and_who_sees_another_image_does_not() -> None:
    figures = AnswersMetric(AnswersConfig(), Context()).evaluate(Evaluated())
    assert figures["answer_exact"] == 1 and {figures[f"answer_exact/{kind}"] for kind in KINDS} == {1.0}
    assert 0.1 < figures["answer_blind"] < 0.5 and 0.2 < figures["answer_prior"] < 0.6


def test_questions_as_in_the_data_are_sound_and_as_varied() -> None:
    figures = QuestionsMetric(QuestionsConfig(), Context()).evaluate(Evaluated())
    assert figures == {"question_sound": 1.0, "question_answered": 1.0, "question_kinds": 0.0, "question_variety": 1.0}


def test_one_question_for_all_is_told_by_kinds_and_variety() -> None:
    """And questions about what is not there, or that are none, are not sound."""
    metric = QuestionsMetric(QuestionsConfig(), Context())
    found = Evaluated(asked=["how many objects are there"] * 150)
    figures = metric.evaluate(found)
    assert figures["question_sound"] == figures["question_answered"] == 1
    assert figures["question_kinds"] > 0.7 and figures["question_variety"] < 0.03
    empty = Evaluated(asked=["what colour is the object at the top left"] * 75 + ["what colour"] * 75)
    figures, panels = metric.evaluate(empty), {panel.title: panel for panel in metric.panels(empty)}
    occupied = float((empty.samples.truth.cell[:75] == 0).any(axis=1).sum()) / 150
    assert figures["question_sound"] == figures["question_answered"] == pytest.approx(occupied)
    rows = {row[0]: row[1:] for row in panels["Questions asked"].rows}
    assert rows["no question"] == ("50.0 %", "0.0 %", "0.0 %", "0.0 %") and rows["count"][0] == "0.0 %" and rows["count"][2] == "–"


def test_panels_say_it_by_kind_and_language() -> None:
    found = Evaluated()
    metric = AnswersMetric(AnswersConfig(), Context())
    (panel,) = metric.panels(found)
    assert panel.rows[0][0] == "all" and {row[0] for row in panel.rows} == {"all", *KINDS, *LANGUAGES}
    assert panel.rows[0][1] == 150 and panel.rows[0][2] == "100.0 %"
    assert sum(row[1] for row in panel.rows if row[0] in KINDS) == 150


def test_the_distance_of_two_distributions() -> None:
    assert total_variation("aabb", "abab") == 0
    assert total_variation("aaaa", "bb") == 1
    assert total_variation("aaab", "ab") == pytest.approx(0.25)


def test_other_data_are_refused() -> None:
    other = Evaluated(number=1)
    other.samples = attrs.evolve(other.samples, truth=None)
    for metric in (AnswersMetric(AnswersConfig(), Context()), QuestionsMetric(QuestionsConfig(), Context())):
        with pytest.raises(ValueError, match="the dataset shapes"):
            metric.evaluate(other)
