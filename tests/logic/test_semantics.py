"""Satisfaction is what the definitions say, checked by trying every assignment; gradients lead to where rules hold."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given as trying
from hypothesis import settings
from hypothesis import strategies as st
from ibllm_logic.diagrams import compiled
from ibllm_logic.formulas import And, Atom, Formula, Has, Implies, Not, Or, counted
from ibllm_logic.language import parse
from ibllm_logic.readers import CaptionerReading, Probe
from ibllm_logic.reading import TokenReader, Vocabulary
from ibllm_logic.semantics import loss_of, lukasiewicz, product, weight
from ibllm_logic.worlds import TextReader
from ibllm_tokenizers.config import WordConfig
from ibllm_tokenizers.word import WordTokenizer
from torch import Tensor

from ibllm.plugin import Context, Latent, UserError, to_tokens

ATOMS = [Has("colour", word, "o") for word in "abcdef"]
RULES = Path(__file__).parents[2] / "recipes" / "variations" / "scenes.rules"
FREE = """colour: red | green | blue
shape: circle | square
size: large | small
objects are shape
relation left_of: left of, reversed right of
relation above: above
left_of(a,b) → ¬left_of(b,a)
"""


def holds(formula: Formula, so: dict[Atom, bool]) -> bool:
    match formula:
        case Not(inner):
            return not holds(inner, so)
        case And(parts):
            return all(holds(part, so) for part in parts)
        case Or(parts):
            return any(holds(part, so) for part in parts)
        case Implies(one, other):
            return not holds(one, so) or holds(other, so)
    assert isinstance(formula, Atom)
    return so[formula]


def by_trying(formula: Formula, p: dict[Atom, Tensor]) -> Tensor:
    """The sum over all assignments that satisfy it of their probabilities."""
    atoms, total = list(p), torch.zeros((), dtype=torch.float64)
    for assignment in itertools.product((False, True), repeat=len(atoms)):
        if holds(formula, dict(zip(atoms, assignment, strict=True))):
            total = total + torch.stack([p[a] if so else 1 - p[a] for a, so in zip(atoms, assignment, strict=True)]).prod(0)
    return total


formulas: Any = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.one_of(
        inner.map(Not),
        st.tuples(inner, inner).map(lambda two: Implies(*two)),
        st.lists(inner, min_size=2, max_size=3).map(lambda some: And(tuple(some))),
        st.lists(inner, min_size=2, max_size=3).map(lambda some: Or(tuple(some))),
    ),
    max_leaves=8,
)


@trying(formulas, st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_the_semantic_loss_counts_every_assignment_that_satisfies(formula: Formula, seed: int):
    torch.manual_seed(seed)
    p = {atom: torch.rand(2, dtype=torch.float64) for atom in formula.atoms()}
    torch.testing.assert_close(weight(compiled(formula), p), by_trying(formula, p).expand(2), rtol=1e-9, atol=1e-12)


@trying(formulas)
@settings(max_examples=60, deadline=None)
def test_where_all_is_certain_all_semantics_are_logic(formula: Formula):
    for assignment in itertools.product((0.0, 1.0), repeat=len(formula.atoms())):
        p = {atom: torch.tensor(value) for atom, value in zip(formula.atoms(), assignment, strict=True)}
        wanted = float(holds(formula, {atom: bool(value) for atom, value in p.items()}))
        assert float(product(formula, p)) == float(lukasiewicz(formula, p)) == float(weight(compiled(formula), p)) == wanted


def test_t_norms_are_as_they_are_defined():
    a, b = ATOMS[:2]
    p: dict[Atom, Tensor] = {a: torch.tensor(0.7), b: torch.tensor(0.4)}
    for formula, by_product, by_lukasiewicz in (
        (And((a, b)), 0.28, 0.1), (Or((a, b)), 0.82, 1.0), (Implies(a, b), 0.58, 0.7), (Not(a), 0.3, 0.3),
    ):  # fmt: skip
        torch.testing.assert_close(product(formula, p), torch.tensor(by_product))
        torch.testing.assert_close(lukasiewicz(formula, p), torch.tensor(by_lukasiewicz))


def test_exactly_one_of_many_is_counted_exactly_and_too_many_are_refused():
    many = [Has("colour", str(n), "o") for n in range(24)]
    p: dict[Atom, Tensor] = {atom: torch.tensor(0.02 * n, dtype=torch.float64) for n, atom in enumerate(many)}
    q = torch.stack(list(p.values()))
    wanted = sum(q[n] * (1 - q)[torch.arange(24) != n].prod() for n in range(24))
    torch.testing.assert_close(weight(compiled(counted("exactly", many)), p), wanted, rtol=1e-9, atol=0)
    with pytest.raises(UserError, match=r"^f\.rules:1:2: the rule is too large to be counted exactly: expected fewer words"):
        compiled(
            And(
                tuple(Or((one, other)) for one, other in zip(many[:16], many[8:], strict=True))
                + tuple(Has("x", str(n), "o") for n in range(120))
            ),
            "f.rules:1:2",
        )


@pytest.mark.parametrize("semantics", ["semantic", "product", "lukasiewicz"])
def test_descent_leads_to_exactly_one(semantics: str):
    torch.manual_seed(0)
    logits = torch.randn(6, requires_grad=True)
    formula = counted("exactly", ATOMS)
    diagram = compiled(formula)

    def satisfied() -> Tensor:
        p: dict[Atom, Tensor] = dict(zip(ATOMS, logits.sigmoid(), strict=True))
        return weight(diagram, p) if semantics == "semantic" else {"product": product, "lukasiewicz": lukasiewicz}[semantics](formula, p)

    optimizer = torch.optim.Adam([logits], lr=0.2)
    for _ in range(150):
        optimizer.zero_grad()
        loss_of(satisfied(), semantics).backward()
        optimizer.step()
    p = logits.sigmoid().detach()
    # By Łukasiewicz's, where no rule is satisfied at all, there is no way to go: what it starts from decides.
    assert float(p.sum()) == pytest.approx(1, abs=0.1) or semantics == "lukasiewicz"
    assert int((p > 0.5).sum()) == 1 or semantics == "lukasiewicz"


def tokenizer(*texts: str) -> WordTokenizer:
    made = WordTokenizer(WordConfig(size=64, max_length=48), Context())
    made.train(texts)
    return made


TEXTS = (
    "a large red circle left of a small blue square, which is above a large green circle",
    "a small green square right of a large red square",
    "a circle",
    "a large blue circle above a small red circle, which is right of a small green square and a large red circle",
)


def test_tokens_are_read_as_texts_are():
    rules = parse(FREE, "f.rules")
    words, vocabulary, by_text = tokenizer(*TEXTS), Vocabulary(rules), TextReader(rules)
    said = TokenReader(vocabulary, words, 3, torch.device("cpu"))(to_tokens(words, TEXTS).ids)
    assert said.beyond.tolist() == [0, 0, 0, 1]
    for n, text in enumerate(TEXTS):
        world = by_text.read(text)
        for k in range(3):
            found = {vocabulary.words[w] for w in said.words[n, k].nonzero()[:, 0].tolist()}
            wanted = {(kind, word) for kind, some in world.things[k].words.items() for word in some} if k < len(world.things) else set()
            assert found == wanted and bool(said.present[n, k]) == (k < len(world.things))
        phrases = {
            (vocabulary.phrases[f][0], *((k, k - 1) if vocabulary.phrases[f][1] else (k - 1, k)))
            for k, f in said.phrases[n].nonzero().tolist()
        }
        assert phrases == {one for one in world.related if max(one[1:]) < 3}


def test_scenes_are_read_with_what_stands_after_the_noun():
    from ibllm_logic.language import read_rules

    rules = read_rules(RULES)
    text = "a small red circle at the top left and a large cyan ring at the bottom right"
    words, vocabulary = tokenizer(text), Vocabulary(rules)
    said = TokenReader(vocabulary, words, 2, torch.device("cpu"))(to_tokens(words, [text]).ids)
    found = [{vocabulary.words[w][1] for w in said.words[0, k].nonzero()[:, 0].tolist()} for k in range(2)]
    assert found == [{"small", "red", "circle", "top left"}, {"large", "cyan", "ring", "bottom right"}]


def test_a_captioners_probabilities_are_those_of_its_words():
    rules = parse(FREE.replace("size: large | small", "size: large | small | very small"), "f.rules")
    words, vocabulary = tokenizer(*TEXTS, "very"), Vocabulary(rules)
    tokens = to_tokens(words, ["a small red circle left of a large blue square"])
    torch.manual_seed(0)
    logits = torch.randn(1, tokens.ids.shape[1], words.size, dtype=torch.float64)
    said = TokenReader(vocabulary, words, 2, torch.device("cpu"))(tokens.ids)
    seen = CaptionerReading(vocabulary, words, torch.device("cpu"))(logits, tokens.ids, said)
    p = logits[0].softmax(-1)
    at = {word: tokens.ids[0].tolist().index(words.encode_one(word)[0]) for word in ("small", "red", "left", "blue")}

    def of(word: str, place: int) -> float:
        return float(p[place - 1, words.encode_one(word)[0]])

    number = vocabulary.numbers
    for word in ("red", "green", "blue"):
        assert float(seen.words[0, 0, number["colour", word]]) == pytest.approx(of(word, at["red"]), rel=1e-5)
        assert float(seen.words[0, 1, number["colour", word]]) == pytest.approx(of(word, at["blue"]), rel=1e-5)
    # "very small" counts by its first token, in which it differs from what is said.
    assert float(seen.words[0, 0, number["size", "very small"]]) == pytest.approx(of("very", at["small"]), rel=1e-5)
    whole = of("left", at["left"]) * of("of", at["left"] + 1)
    assert float(seen.related[0, 0, 0, 1]) == pytest.approx(whole, rel=1e-5)
    assert float(seen.related[0, 0, 1, 0]) == pytest.approx(of("right", at["left"]), rel=1e-5)
    assert float(seen.related[0, 1, 0, 1]) == pytest.approx(of("above", at["left"]), rel=1e-5)
    said_words = [of(word, at[word]) for word in ("small", "red")]
    circle = of("circle", at["red"] + 1)
    assert float(seen.drawn[0, 0]) == pytest.approx(said_words[0] * said_words[1] * circle, rel=1e-5)
    assert seen.relations_known[0].tolist() == [[False, True], [True, False]]


def test_a_probe_learns_what_captions_say_and_what_rules_say_beside():
    """Relations have right examples alone; that the other way round is wrong only the rule says."""
    rules = parse(FREE, "f.rules")
    texts = [
        f"a {one} circle {way} of a {other} square" for one in ("red", "blue") for other in ("green", "blue") for way in ("left", "right")
    ]
    words, vocabulary = tokenizer(*texts), Vocabulary(rules)
    tokens = to_tokens(words, texts)
    said = TokenReader(vocabulary, words, 2, torch.device("cpu"))(tokens.ids)
    torch.manual_seed(0)
    # What an image would show: a place for each object, with its colour and its side.
    latent = torch.randn(8, 2, 12)
    for n, text in enumerate(texts):
        for k, colour in enumerate((text.split()[1], text.split()[-2])):
            side = ("left" in text) == (k == 0)
            latent[n, k] = torch.cat(
                [
                    torch.tensor([colour == c for c in ("red", "green", "blue")]).float(),
                    torch.tensor([float(side), float(not side), float(k), 1.0 - k]),
                    torch.zeros(5),
                ]
            )
    z = Latent(latent, torch.ones(8, 2, dtype=torch.bool), latent.mean(1))
    diagram = compiled(rules.rules[0].formula)
    for with_rule, wanted in ((False, True), (True, False)):
        torch.manual_seed(1)
        probe = Probe(vocabulary, 12, 16)
        optimizer = torch.optim.Adam(probe.parameters(), lr=1e-2)
        for _ in range(150):
            optimizer.zero_grad()
            logits = probe(z, said)
            seen = probe.seen(logits, said)
            one, other = rules.rules[0].formula.atoms()
            rule = loss_of(weight(diagram, {one: seen.related[:, 0, 0, 1], other: seen.related[:, 0, 1, 0]}), "semantic").mean()
            (probe.supervision(logits, said).mean() + with_rule * rule).backward()
            optimizer.step()
        seen = probe.seen(probe(z, said), said)
        left = torch.tensor(["left" in text for text in texts])
        assert bool(((seen.words[:, 0, :3] > 0.5) == said.words[:, 0, :3]).all())
        stated, turned = (
            torch.where(left, seen.related[:, 0, 0, 1], seen.related[:, 0, 1, 0]),
            torch.where(left, seen.related[:, 0, 1, 0], seen.related[:, 0, 0, 1]),
        )
        assert bool((stated > 0.5).all()) and bool((turned > 0.5).all()) == wanted
