"""Files of rules are read as they are written; what is wrong is told with line, column and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from ibllm_logic.formulas import And, Drawn, Has, Implies, Named, Not, Or, Related
from ibllm_logic.language import parse, read_rules
from ibllm_logic.worlds import TextReader, Thing, World, judge, tally, together

from ibllm.plugin import UserError

WORDS = """colour: red | green = lime | blue
shape: circle = circles | square
objects are shape
relation left_of: left of, reversed right of

# rules
"""
RED, BLUE = Has("colour", "red", "a"), Has("colour", "blue", "b")


@pytest.mark.parametrize(
    ("rule", "formula"),
    [
        ("left_of(a,b) → ¬left_of(b,a)", Implies(Related("left_of", "a", "b"), Not(Related("left_of", "b", "a")))),
        ("left_of(a, b) implies not left_of(b, a)  # as above", Implies(Related("left_of", "a", "b"), Not(Related("left_of", "b", "a")))),
        ("every object named is drawn", Implies(Named("o"), Drawn("o"))),
        ("for every object o: drawn(o) -> named(o)", Implies(Drawn("o"), Named("o"))),
        ("∀ a, b: red(a) ∧ blue(b) ∨ ¬red(a)", Or((And((RED, BLUE)), Not(RED)))),
        ("red(a) and (blue(b) or not red(a))", And((RED, Or((BLUE, Not(RED)))))),
        ("red(a) -> blue(b) -> red(a)", Implies(RED, Implies(BLUE, RED))),
        ("red(a) iff blue(b)", And((Implies(RED, BLUE), Implies(BLUE, RED)))),
        ("colour(a) = red", RED),
        ("shape(a) = shape(b)", Or(tuple(And((Has("shape", word, "a"), Has("shape", word, "b"))) for word in ("circle", "square")))),
        ("for all objects o: exactly one shape(o)", And((Or(two := (Has("shape", "circle", "o"), Has("shape", "square", "o"))), Not(And(two))))),
        ("for all o: at most one shape(o)", And((Not(And(two)),))),
        ("for all o: at least one shape(o)", Or(two)),
        ("no shape(o)", Not(Or(two))),
    ],
)  # fmt: skip
def test_a_rule_means_what_it_says(rule: str, formula: object):
    (found,) = parse(WORDS + rule, "a.rules").rules
    assert found.formula == formula and found.place == "a.rules:7:1"


def test_rules_have_names_and_words_have_forms():
    rules = parse(WORDS + 'rule "only one": every object drawn is named\nrule two: red(o)\n', "a.rules")
    assert [(rule.name, rule.text, rule.place) for rule in rules.rules] == [
        ("only one", "every object drawn is named", "a.rules:7:18"), ("two", "red(o)", "a.rules:8:11"),
    ]  # fmt: skip
    assert rules.classes["colour"].words == {"red": ["red"], "green": ["green", "lime"], "blue": ["blue"]}
    assert (rules.relations["left_of"].phrases, rules.relations["left_of"].turned) == (["left of"], ["right of"])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("for every object o: exactly won colour(o)", "7:29: 'won' cannot stand here: expected one"),
        ("for every object o: exactly one color(o)", r"7:33: there is no class of words 'color': expected colour\?"),
        ("for every object o: red(p)", "7:25: there is no variable 'p': expected one of o"),
        ("for every object o red(o)", "7:20: 'red\\(o\\)' cannot stand here: expected ',', ':'"),
        ("rule x: red(a) and", "7:19: the statement is not complete: expected a name, exactly, at most, at least, no, not"),
        ("left_of(a)", r"7:1: left_of is between two objects: expected left_of\(a, another variable\)"),
        ("lef_of(a,b)", r"7:1: there is no relation 'lef_of': expected left_of\?"),
        ("left_of(a,a)", "7:11: left_of relates a to itself: expected two different variables"),
        ("colour(o)", r"7:1: colour is a class of words: expected exactly one colour\(o\), or colour\(o\) = a word of it"),
        ("colour(o) = rde", r"7:13: there is no colour 'rde': expected red\?"),
        ("red(a) $ blue(b)", r"7:8: '\$' cannot stand here: expected and, iff, implies, or, the end of the line"),
        ("red(a)\nred(a)", r"7:1: two rules are called 'red\(a\)'"),
        ("red(a) & red(b) & red(c) & red(d)", "7:1: the rule is about 4 objects at once: expected at most 3"),
        ("colour: pink\nred(o)", "7:1: colour is said twice"),
        ("objects are colour\nred(o)", "7:13: objects are said twice"),
        ("not " * 20_000 + "red(o)", "1:1: a rule has brackets within brackets without end"),
        ("", "1:1: there is no rule: expected one, as: for every object o: exactly one colour"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_column(rule: str, message: str):
    with pytest.raises(UserError, match=f"^a.rules:{message}"):
        parse(WORDS + rule, "a.rules")


def test_a_file_that_is_no_text_or_not_there_is_told(tmp_path: Path):
    (tmp_path / "a.rules").write_bytes(b"colour: red\n\xff")
    with pytest.raises(UserError, match=r"a\.rules:2: byte 0xff is not UTF-8"):
        read_rules(tmp_path / "a.rules")
    with pytest.raises(UserError, match="there is no such file"):
        read_rules(tmp_path / "b.rules")


def read(text: str) -> World:
    return TextReader(parse(WORDS + "place after: top left | at the left\nred(o)", "a.rules")).read(text)


def test_words_belong_to_their_noun():
    world = read("A lime circle at the top left and a blue square, which is right of red  circles of colour reddish")
    assert [dict(thing.words) for thing in world.things] == [
        {"colour": {"green"}, "shape": {"circle"}, "place": {"top left"}},
        {"colour": {"blue"}, "shape": {"square"}},
        {"colour": {"red"}, "shape": {"circle"}},
    ]
    assert world.related == {("left_of", 2, 1)}


@pytest.mark.parametrize("judged", ["text", "image"])
def test_an_object_of_text_and_image_is_one_that_fits(judged: str):
    """What the other one has besides is there, and no more is said of it."""
    text, image = read("a red circle and a square left of a lime circle"), read("a blue square at the top left, right of a green circle")
    world = together(text, image, judged)
    assert [(thing.named, thing.drawn) for thing in world.things] == [(True, False), (True, True), (True, True)]
    red, square, green = ({kind: set(words) for kind, words in thing.words.items()} for thing in world.things)
    assert red == ({"colour": {"red"}, "shape": {"circle"}} if judged == "text" else {})
    assert square == ({"shape": {"square"}} if judged == "text" else {"colour": {"blue"}, "shape": {"square"}, "place": {"top left"}})
    assert green == {"colour": {"green"}, "shape": {"circle"}}
    assert world.related == ({("left_of", 1, 2)} if judged == "text" else {("left_of", 2, 1)})


@pytest.mark.parametrize(
    ("rule", "text", "applies", "holds"),
    [
        ("for every object o: exactly one colour(o)", "a red circle, a red blue square and a circle", 2, 1),  # of the last nothing is said
        ("left_of(a,b) → ¬left_of(b,a)", "a circle left of a square", 1, 1),
        ("left_of(a,b) → red(b)", "a blue circle left of a green square", 1, 0),
        ("colour(a) = colour(b)", "a red circle and a red square and a blue square", 6, 2),
        ("red(o) -> circle(o)", "a red square and a blue square", 1, 0),
    ],
)
def test_rules_are_judged(rule: str, text: str, applies: int, holds: int):
    found = judge(parse(WORDS + rule, "a.rules").rules[0], read(text))
    assert (found.applies, found.holds) == (applies, holds)


@pytest.mark.parametrize(("judged", "applies", "broken"), [("text", 2, 1), ("image", 3, 2)])
def test_a_tally_counts_what_cannot_be_said_and_keeps_the_first_example(judged: str, applies: int, broken: int):
    rules = parse(WORDS + "every object named is drawn", "a.rules")
    (found,), unsaid = tally(rules, ["a red circle", "a square", "a circle"], ["a red circle", "a red circle", None], judged)
    assert (found.applies, found.holds, found.broken, found.example, unsaid) == (applies, 1, broken, "a square / a red circle", 1)
    assert judge(rules.rules[0], World([Thing({}, named=False)], frozenset())).applies == 0
