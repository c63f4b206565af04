"""Captions and questions: what is written is parsed back, and nothing else is."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ibllm_shapes import grammar
from ibllm_shapes.config import ShapesConfig
from ibllm_shapes.dataset import ShapesDataset
from ibllm_shapes.grammar import LANGUAGES, facts, scene_facts, write
from ibllm_shapes.questions import WORDINGS
from ibllm_shapes.scenes import COLOURS, SHAPES, SIZES, Scenes

from ibllm_core.interfaces.context import Context


def scenes(placement: str, split: str = "train", number: int = 256) -> Scenes:
    truth = ShapesDataset(ShapesConfig(placement=placement), Context()).samples(split, np.arange(number)).truth
    assert isinstance(truth, Scenes)
    return truth


CASES = [(p, code, which) for p in ("cells", "free") for code in LANGUAGES for which in range(grammar.template_count(p, code))]


@pytest.mark.parametrize(("placement", "language", "template"), CASES)
def test_every_template_is_parsed_back(placement: str, language: str, template: int) -> None:
    truth = scenes(placement)
    captions = write(truth, [language] * len(truth), [template] * len(truth))
    assert set(truth.count.tolist()) == {1, 2, 3}
    for i, caption in enumerate(captions):
        assert facts(caption, placement) == facts(caption, placement, language) == scene_facts(truth, i)
        assert grammar.exact(truth, i, caption)
        assert not grammar.exact(truth, (i + 1) % len(truth), caption) or scene_facts(truth, i) == scene_facts(truth, (i + 1) % len(truth))
        other = "zh" if language == "en" else "en"
        assert facts(caption, placement, other) is None


def test_templates_of_a_language_differ() -> None:
    for placement in ("cells", "free"):
        truth = scenes(placement)
        for code in LANGUAGES:
            written = [write(truth, [code] * len(truth), [which] * len(truth)) for which in range(grammar.template_count(placement, code))]
            for i in range(len(truth)):
                assert len({captions[i] for captions in written}) == len(written)


def test_the_canonical_captions_read_as_documented() -> None:
    one = np.full((1, 3), -1)
    scene = Scenes(
        count=np.array([2]),
        colour=np.array([[0, 2, -1]]),
        shape=np.array([[0, 1, -1]]),
        size=np.array([[0, 1, -1]]),
        cell=np.array([[0, 3, -1]]),
        x=np.array([[8.0, 24.0, np.nan]]),
        y=np.array([[8.0, 24.0, np.nan]]),
        image_size=32,
        placement="cells",
    )
    assert write(scene, ["en"], [0]) == ["a large red circle at the top left and a small blue square at the bottom right"]
    assert write(scene, ["zh"], [0]) == ["左上角有一个红色的大圆形，右下角有一个蓝色的小正方形"]
    free = Scenes(scene.count, scene.colour, scene.shape, scene.size, one, scene.x, np.array([[9.0, 12.0, np.nan]]), 32, "free")
    assert write(free, ["en"], [0]) == ["a large red circle left of a small blue square"]
    assert write(free, ["en"], [1]) == ["a small blue square right of a large red circle"]
    assert write(free, ["zh"], [0]) == ["一个红色的大圆形在一个蓝色的小正方形的左边"]
    assert scene_facts(free, 0) == {
        ("large", "red", "circle"),
        ("small", "blue", "square"),
        ("left of", ("large", "red", "circle"), ("small", "blue", "square")),
    }


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a large red circle",
        "a red circle at the top left",
        "a large red circle at the top left ",
        "A large red circle at the top left",
        "a large red circle at the top left.",
        "a large red circle at the top left and",
        "a large brown circle at the top left",
        "a large red circle at the middle",
        "a large red circle at the top left and a small red ring at the top left",
        "a large red circle at the top left, a small red ring at the top right",
        "a large red circle at the top left a small red ring at the top right",
        "a large red circle at the top left and a small red ring at the top right and a small red ring at the bottom left",
        "左上角有一个红色的圆形",
    ],
)
def test_what_is_no_sentence_has_no_facts(caption: str) -> None:
    assert facts(caption) is None


def test_free_sentences_are_refused_where_they_mean_nothing() -> None:
    assert facts("a large red circle left of a small blue ring", "free") is not None
    assert facts("a large red circle left of a large red circle", "free") is None
    assert facts("a large red circle at the top left", "free") is None


def test_a_relation_may_be_told_from_either_side() -> None:
    assert facts("a large red circle above a small blue ring", "free") == facts("a small blue ring below a large red circle", "free")
    assert facts("a large red circle above a small blue ring", "free") != facts("a large red circle below a small blue ring", "free")


def test_order_does_not_change_the_facts() -> None:
    one, other = "a large red circle at the top left", "a small blue ring at the top right"
    assert facts(f"{one} and {other}") == facts(f"{other} and {one}")


@pytest.mark.parametrize("wordings", ["canonical", "varied"])
@pytest.mark.parametrize("placement", ["cells", "free"])
@pytest.mark.parametrize("split", ["train", "novel"])
def test_answers_are_true(placement: str, split: str, wordings: str) -> None:
    """An answer is worked out again from the question's words and the scene's facts alone."""
    config = ShapesConfig(placement=placement, languages=("en", "zh"), questions=True, wordings=wordings)
    data = ShapesDataset(config, Context())
    samples = data.samples(split, np.arange(1200))
    kinds = set()
    for i, (code, question, answer) in enumerate(zip(samples.languages, samples.questions, samples.answers, strict=True)):
        kind, expected = _answer(code, question, scene_facts(samples.truth, i))
        assert answer in expected, (question, answer, samples.captions[i])
        kinds.add((code, kind, answer if kind in ("there", "count") else ""))
    for code in ("en", "zh"):
        wording = WORDINGS[code]
        for kind in ("colour", "shape", "where"):
            assert (code, kind, "") in kinds
        assert {answer for c, kind, answer in kinds if (c, kind) == (code, "there")} == {wording.yes, wording.no}
        assert {answer for c, kind, answer in kinds if (c, kind) == (code, "count")} == set(wording.numbers)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("wordings", ["canonical", "varied"])
def test_questions_give_no_held_out_pair_away(split: str, wordings: str) -> None:
    data = ShapesDataset(ShapesConfig(questions=True, wordings=wordings), Context())
    held = {f"{COLOURS[c]} {SHAPES[s]}" for c, s in data.sampler.novel + data.sampler.novel_validation}
    for question in data.samples(split, np.arange(3000)).questions:
        assert not any(pair in question for pair in held)


def _answer(code: str, question: str, found: grammar.Facts) -> tuple[str, set[str]]:
    words, wording = LANGUAGES[code], WORDINGS[code]
    lists = {"size": words.sizes, "colour": words.colours, "shape": words.shapes, "place": words.cells}
    names = {"size": SIZES, "colour": COLOURS, "shape": SHAPES, "place": ("top left", "top right", "bottom left", "bottom right")}
    objects = [dict(zip(("size", "colour", "shape", "place"), fact, strict=False)) for fact in grammar.objects_of(found)]

    def match(template: str) -> dict[str, str] | None:
        template = template.replace("{object}", words.phrase)
        parts = re.split(r"({\w+})", template)
        pattern = "".join(
            f"(?P<{p[1:-1]}>{'|'.join(map(re.escape, lists[p[1:-1]]))})" if p.startswith("{") else re.escape(p) for p in parts
        )
        hit = re.fullmatch(pattern, question.removesuffix(wording.mark))
        return None if hit is None else {key: names[key][lists[key].index(value)] for key, value in hit.groupdict().items()}

    def fitting(described: dict[str, str]) -> list[dict[str, str]]:
        return [o for o in objects if all(o.get(key) == value for key, value in described.items())]

    for kind, templates in (("colour", wording.colour), ("shape", wording.shape), ("count", wording.count)):
        for template in templates:
            described = match(template)
            if described is None:
                continue
            these = fitting(described)
            if kind == "count":
                return kind, {wording.numbers[len(these)]}
            assert len(these) == 1
            return kind, {lists[kind][names[kind].index(these[0][kind])]}
    for template in wording.there:
        if (described := match(template)) is not None:
            return "there", {wording.yes if fitting(described) else wording.no}
    described = next((hit for hit in map(match, wording.where) if hit is not None), None)
    assert described is not None, question
    (this,) = fitting(described)
    if "place" in this:
        return "where", {lists["place"][names["place"].index(this["place"])]}
    me = (this["size"], this["colour"], this["shape"])
    expected = set()
    for fact in found:
        if not isinstance(fact[-1], str) and me in fact[1:]:
            kind = grammar.RELATIONS.index(fact[0]) ^ (0 if fact[1] == me else 1)
            other = fact[2] if fact[1] == me else fact[1]
            spoken = {key: lists[key][names[key].index(value)] for key, value in zip(("size", "colour", "shape"), other, strict=True)}
            expected.add(wording.related.format(relation=words.relations[kind], object=words.phrase.format(**spoken)))
    return "where", expected
