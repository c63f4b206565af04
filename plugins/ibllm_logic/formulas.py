"""What rules are made of. Torch-free.

A formula is about variables, each an object; what it says of them are atoms. Formulas are immutable and compare by what they say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs


class Formula:
    """The base of all formulas."""

    def atoms(self) -> tuple[Atom, ...]:
        """Its atoms, each once, in order."""
        return tuple(dict.fromkeys(self._atoms()))

    def _atoms(self) -> Iterator[Atom]:
        for name in vars(type(self)).get("__match_args__", ()):
            held = getattr(self, name)
            for one in held if isinstance(held, tuple) else (held,):
                if isinstance(one, Formula):
                    yield from one._atoms()


class Atom(Formula):
    """What is so or not, or more or less."""

    def _atoms(self) -> Iterator[Atom]:
        yield self


@attrs.frozen
class Has(Atom):
    """An object has a word of a class."""

    kind: str
    word: str
    of: str


@attrs.frozen
class Related(Atom):
    """Two objects are related."""

    relation: str
    one: str
    other: str


@attrs.frozen
class Named(Atom):
    """The text names the object."""

    of: str


@attrs.frozen
class Drawn(Atom):
    """The image shows the object, with all that the text says of it."""

    of: str


@attrs.frozen
class Not(Formula):
    """¬ of."""

    of: Formula


@attrs.frozen
class And(Formula):
    """All of them."""

    of: tuple[Formula, ...]


@attrs.frozen
class Or(Formula):
    """One of them at least."""

    of: tuple[Formula, ...]


@attrs.frozen
class Implies(Formula):
    """If, then."""

    one: Formula
    other: Formula


def iff(one: Formula, other: Formula) -> Formula:
    """Both or neither."""
    return And((Implies(one, other), Implies(other, one)))


def counted(kind: str, of: Sequence[Formula]) -> Formula:
    """``exactly``, ``at most`` or ``at least`` one of them; ``no``: none."""
    some = Or(tuple(of)) if len(of) > 1 else of[0]
    if kind == "no":
        return Not(some)
    pairs = tuple(Not(And((one, other))) for n, one in enumerate(of) for other in of[n + 1 :])
    return {"at least": some, "at most": And(pairs), "exactly": And((some, *pairs))}[kind]


@attrs.frozen
class Class:
    """Words of which an object has some: its colours.

    Attributes:
        words: word → the ways in which texts write it.
        after: texts say it after the object's noun, not before it.
    """

    name: str
    words: Mapping[str, Sequence[str]]
    after: bool = False


@attrs.frozen
class Relation:
    """How two objects are to each other: what stands between one and the other, and what does if they are named the other way round."""

    name: str
    phrases: Sequence[str]
    turned: Sequence[str]


@attrs.frozen
class Rule:
    """A formula that holds for every choice of different objects.

    Attributes:
        name: as it is said, or the formula's text.
        text: of the formula.
        place: ``file:line:column``.
    """

    name: str
    text: str
    variables: tuple[str, ...]
    formula: Formula
    place: str


@attrs.frozen(eq=False)
class Rules:
    """A file of rules, and the words that they are about. Objects are named by the words of the class `nouns`."""

    classes: Mapping[str, Class]
    nouns: str
    relations: Mapping[str, Relation]
    rules: Sequence[Rule]
    digest: str
