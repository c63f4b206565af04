"""What may become of a text, and which of it is taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from ibllm_robust.rewriting import Grammar, misspelt, worst_texts
from ibllm_shapes.grammar import facts

from ibllm.plugin import Rng


def test_slips_of_a_finger_change_one_word_and_keep_its_first_letter():
    text = "a red ring, 3d"
    found = misspelt(text)
    assert {"a rd ring, 3d", "a rde ring, 3d", "a reed ring, 3d", "a rwd ring, 3d", "a red rng, 3d"} <= set(found)
    assert all(one[:3] == "a r" and one.endswith(", 3d") for one in found)
    assert text not in found
    assert misspelt("一个红色的圆形 at 12 or 3d") == []


def test_words_stand_where_others_stood_between_the_same_two():
    grammar = Grammar.of_texts(["a red ring", "a blue ring", "a blue square"])
    assert grammar.proposals("a red ring") == ["a blue ring"]
    assert set(grammar.proposals("a blue ring")) == {"a red ring", "a blue square"}
    assert Grammar.of_texts(["红色的圆", "蓝色的圆"]).proposals("红色的圆") == ["蓝色的圆"]


def test_classes_and_a_grammar_bound_what_may_stand():
    text = "a small red circle at the top left and a large red circle at the top right"
    grammar = Grammar([("red", "blue"), ("left", "right")], lambda one: facts(one) is not None)
    found = grammar.proposals(text)
    assert "a small blue circle at the top left and a large red circle at the top right" in found
    assert "a small red circle at the top right and a large red circle at the top right" not in found
    assert all(facts(one) is not None for one in found)


def length(texts: Sequence[str], rows: Sequence[int]) -> np.ndarray:
    return np.array([float(len(text)) for text in texts])


def test_the_worst_is_taken_change_by_change():
    def propose(text: str, row: int) -> list[str]:
        return [text + "x", text[:-1], text]

    rng = Rng((0, "t"), np.arange(2))
    assert worst_texts(["ab", "c"], propose, length, rng, changes=3, candidates=8) == ["abxxx", "cxxx"]
    assert worst_texts(["ab"], propose, length, rng, changes=0, candidates=8) == ["ab"]
    assert worst_texts(["ab"], lambda text, row: [text[:-1]], length, rng, changes=3, candidates=8) == ["ab"]


@pytest.mark.parametrize("others", [["first"], ["first", "second"], ["zero", "first", "second"]])
def test_a_text_depends_on_itself_and_its_number_alone(others: list[str]):
    def propose(text: str, row: int) -> list[str]:
        return [text + letter for letter in "abcdefgh"]

    numbers = {"zero": 0, "first": 1, "second": 2}
    rng = Rng((0, "t"), np.array([numbers[text] for text in others]))
    found = worst_texts(others, propose, length, rng, changes=2, candidates=2)
    alone = worst_texts(["first"], propose, length, Rng((0, "t"), np.array([1])), changes=2, candidates=2)
    assert found[others.index("first")] == alone[0]
