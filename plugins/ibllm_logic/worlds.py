"""What texts say, and whether rules hold of it. Torch-free.

An image counts as a text, too: what a dataset's own reader, or the model's captioner, says of it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

import attrs

from ibllm_logic.formulas import And, Drawn, Formula, Has, Implies, Named, Not, Or, Related, Rule, Rules


@attrs.frozen
class Thing:
    """An object: class → its words, those of classes of which nothing is said left out."""

    words: Mapping[str, frozenset[str]]
    named: bool = True
    drawn: bool = True


@attrs.frozen
class World:
    """Objects, and how they are related: (relation, one's number, the other's)."""

    things: Sequence[Thing]
    related: frozenset[tuple[str, int, int]]


@attrs.frozen
class Verdict:
    """Of a rule and a world: how many choices of objects it applies to, and of how many of these it holds."""

    applies: int
    holds: int


class TextReader:
    """Finds the words of the rules in texts: words of classes belong to the next noun, or with ``after`` to the last; a relation is between both."""

    def __init__(self, rules: Rules) -> None:
        self.rules, meanings = rules, dict[str, tuple[str, str]]()
        for name, one in rules.classes.items():
            meanings |= {form.lower(): (name, word) for word, forms in one.words.items() for form in forms}
        for name, relation in rules.relations.items():
            meanings |= {form.lower(): ("", name) for form in relation.phrases}
            meanings |= {form.lower(): ("reversed", name) for form in relation.turned}
        self.meanings = meanings
        longest = sorted(meanings, key=lambda form: (-len(form), form))
        self.pattern = re.compile("|".join(_bounded(form) for form in longest))

    def read(self, text: str) -> World:
        things: list[dict[str, set[str]]] = []
        waiting: list[tuple[str, str]] = []
        related: list[tuple[str, int, int]] = []
        between: list[tuple[str, str]] = []
        for match in self.pattern.finditer(" ".join(text.lower().split())):
            kind, word = self.meanings[match[0]]
            if kind in ("", "reversed"):
                between.append((kind, word))
            elif kind == self.rules.nouns:
                things.append({kind: {word}})
                for held, said in waiting:
                    things[-1].setdefault(held, set()).add(said)
                last = len(things) - 1
                related += [(name, last, last - 1) if turn else (name, last - 1, last) for turn, name in between if last]
                waiting, between = [], []
            elif self.rules.classes[kind].after:
                if things:
                    things[-1].setdefault(kind, set()).add(word)
            else:
                waiting.append((kind, word))
        found = [Thing({kind: frozenset(words) for kind, words in thing.items()}) for thing in things]
        return World(found, frozenset(related))


def _bounded(form: str) -> str:
    """A pattern for a form that begins and ends where a word does, where its script has such places."""
    spaced = form[0].isascii() and form[0].isalnum(), form[-1].isascii() and form[-1].isalnum()
    return (r"(?<!\w)" if spaced[0] else "") + re.escape(form) + (r"(?!\w)" if spaced[1] else "")


def together(text: World, image: World, judged: str = "text") -> World:
    """What the text names and what the image shows: an object of both is one that has in the image all the words that the text says of it.

    Words and relations are those of what is `judged`, ``text`` or ``image``; of objects that only the other one has nothing is said but that it has them.
    """
    free, pairs, things = list(range(len(image.things))), list[tuple[int | None, int | None]](), list[Thing]()
    for n, thing in enumerate(text.things):
        met = next((k for k in free if all(words <= image.things[k].words.get(kind, words) for kind, words in thing.words.items())), None)
        pairs.append((n, met))
        free = [k for k in free if k != met]
    pairs += [(None, k) for k in free]
    world, side = (text, 0) if judged == "text" else (image, 1)
    numbers = {}
    for place, pair in enumerate(pairs):
        own = pair[side]
        if own is not None:
            numbers[own] = place
        words = {} if own is None else world.things[own].words
        things.append(Thing(words, named=pair[0] is not None, drawn=pair[1] is not None))
    return World(things, frozenset((name, numbers[one], numbers[other]) for name, one, other in world.related))


def judge(rule: Rule, world: World) -> Verdict:
    """A rule applies to every choice of different objects of which its words are said, and where it is an implication, to those of which the premise is so."""
    applies = holds = 0
    for chosen in itertools.permutations(range(len(world.things)), len(rule.variables)):
        of = dict(zip(rule.variables, chosen, strict=True))
        if not _said(rule.formula, of, world):
            continue
        if isinstance(rule.formula, Implies) and not true(rule.formula.one, of, world):
            continue
        applies += 1
        holds += true(rule.formula, of, world)
    return Verdict(applies, holds)


def _said(formula: Formula, of: Mapping[str, int], world: World) -> bool:
    """Nothing is said of an object's colour: then it has one nobody told. A relation that is not said is none."""
    return all(atom.kind in world.things[of[atom.of]].words for atom in formula.atoms() if isinstance(atom, Has))


def true(formula: Formula, of: Mapping[str, int], world: World) -> bool:
    """Whether a formula holds; `of`: variable → number of the object."""
    match formula:
        case Has(kind, word, variable):
            return word in world.things[of[variable]].words.get(kind, ())
        case Related(name, one, other):
            return (name, of[one], of[other]) in world.related
        case Named(variable):
            return world.things[of[variable]].named
        case Drawn(variable):
            return world.things[of[variable]].drawn
        case Not(inner):
            return not true(inner, of, world)
        case And(parts):
            return all(true(part, of, world) for part in parts)
        case Or(parts):
            return any(true(part, of, world) for part in parts)
        case Implies(one, other):
            return not true(one, of, world) or true(other, of, world)
    raise AssertionError(formula)


@attrs.define
class Tally:
    """A rule over many worlds; `example` is the first text of which it does not hold."""

    rule: Rule
    applies: int = 0
    holds: int = 0
    broken: int = 0
    example: str = ""

    @property
    def share(self) -> float:
        """Of the choices of objects that it applies to, those of which it holds; 0 where there are none."""
        return self.holds / self.applies if self.applies else 0.0


def tally(
    rules: Rules, texts: Sequence[str | None], images: Sequence[str | None] | None = None, judged: str = "text"
) -> tuple[list[Tally], int]:
    """Each rule over all texts, or over texts with what is said of their images (see `together`); and of how many nothing could be said.

    These are left out, but where images are judged: an image of which nothing can be said shows nothing of what its text names.
    """
    reader, tallies, unsaid = TextReader(rules), [Tally(rule) for rule in rules.rules], 0
    for text, image in zip(texts, images if images is not None else texts, strict=True):
        if text is None or image is None:
            unsaid += 1
            if text is None or judged == "text":
                continue
        world = reader.read(text) if images is None else together(reader.read(text), reader.read(image or ""), judged)
        for one in tallies:
            verdict = judge(one.rule, world)
            one.applies += verdict.applies
            one.holds += verdict.holds
            if verdict.holds < verdict.applies:
                one.broken += 1
                one.example = one.example or (
                    text if images is None or image == text else f"{text} / {image or 'nothing that can be read'}"
                )
    return tallies, unsaid


def pairs(count: int, of: int) -> Iterator[tuple[int, ...]]:
    """Every choice of `of` different numbers below `count`."""
    return itertools.permutations(range(count), of)
