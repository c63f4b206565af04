"""Two-level factorial designs: which cells, which effects, what a fraction cannot tell apart. Torch-free.

A design has k factors, each at a low and a high level; a fraction has 2^(k − p) of the 2^k cells. An effect is a set of factors: one is a main effect, several
an interaction. It is estimated, seed by seed, as the mean over the cells in which the product of its factors' levels (−1, +1) is +1, less the mean over the
others (Box, Hunter & Hunter 2005, chapters 5 and 6): a main effect is what the high level adds on average over the other factors; the interaction of two is
half of how much more the one adds where the other is high.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import attrs

from .paired import Comparison, compare
from .samples import number

__all__ = ["MOST_FACTORS", "Contrast", "Design", "Effect", "make_design", "mean_if_whole", "named"]

#: More factors make more cells, or aliases, than anybody reads.
MOST_FACTORS = 8

Word = frozenset[int]


@attrs.frozen(kw_only=True)
class Effect:
    """An effect of a design, with what it cannot be told apart from.

    Attributes:
        factors: one for a main effect, several for an interaction.
        aliases: other effects that have the same contrast, up to its sign: +1 where what is estimated is their sum, −1 where it is their difference.
    """

    factors: tuple[str, ...]
    aliases: tuple[tuple[tuple[str, ...], int], ...] = ()

    @property
    def name(self) -> str:
        return named(self.factors)


def named(factors: Sequence[str]) -> str:
    """``critic × cycle``."""
    return " × ".join(factors)


@attrs.frozen(kw_only=True)
class Contrast:
    """What an effect is in some runs.

    Attributes:
        means: over the cells whose product of levels is −1, and +1; over the common seeds.
        by_seed: common seed → its value of the effect.
    """

    comparison: Comparison
    means: tuple[float | None, float | None]
    by_seed: Mapping[int, float]


@attrs.frozen(kw_only=True)
class Design:
    """A two-level design.

    Attributes:
        factors: their names.
        cells: each cell's levels, True for high, in the order of `factors`; the one with all factors low is the first.
        words: the sets of factors whose product of levels is the same in all cells (the defining relation); none in a full design.
        effects: the estimable effects up to the order that was asked for, each class of aliases once, under its name of lowest order.
    """

    factors: tuple[str, ...]
    cells: tuple[tuple[bool, ...], ...]
    words: tuple[tuple[str, ...], ...]
    effects: tuple[Effect, ...]

    @property
    def resolution(self) -> int | None:
        """Length of the shortest word; None for a full design."""
        return min(map(len, self.words), default=None)

    def levels(self, cell: Sequence[bool]) -> Mapping[str, bool]:
        """Factor → whether it is high in the cell."""
        return dict(zip(self.factors, cell, strict=True))

    def effect(self, factors: Iterable[str]) -> Effect | None:
        """The effect of these factors, if it or one of its aliases is among the effects; None where there is none."""
        names = [name for name in self.factors if name in set(factors)]
        for known in self.effects:
            members = {known.factors: 1, **dict(known.aliases)}
            if tuple(names) in members:
                # Where two contrasts have other signs, so have their relations to all the rest.
                turned = members.pop(tuple(names))
                return Effect(factors=tuple(names), aliases=tuple((other, turned * sign) for other, sign in members.items()))
        return None

    def sign(self, effect: Effect, cell: Sequence[bool]) -> int:
        """+1 or −1: the product of the effect's levels in a cell."""
        levels = self.levels(cell)
        return math.prod(1 if levels[name] else -1 for name in effect.factors)

    def contrast(self, effect: Effect, values: Mapping[tuple[bool, ...], Mapping[int, float | None]], confidence: float = 0.95) -> Contrast:
        """An effect with its interval and tests.

        Seeds are blocks: each gives one value of the contrast, so that what a seed adds to all cells cancels. A seed with a missing cell is left out, and
        named. Hedges' g and the probability of improvement are of single runs and have no meaning here.

        Args:
            values: cell → seed → the figure.
        """
        low, high = (self._means(effect, values, side) for side in (-1, 1))
        found = compare(low, high, confidence)
        before, after = ([value for seed in found.seeds if (value := side[seed]) is not None] for side in (low, high))
        return Contrast(
            comparison=attrs.evolve(found, g=None, improvement=None),
            means=(mean_if_whole(before), mean_if_whole(after)),
            by_seed={seed: b - a for seed, a, b in zip(found.seeds, before, after, strict=True)},
        )

    def _means(self, effect: Effect, values: Mapping[tuple[bool, ...], Mapping[int, float | None]], side: int) -> dict[int, float | None]:
        """Seed → mean over the cells of one side; None where one lacks it."""
        own = [values.get(cell, {}) for cell in self.cells if self.sign(effect, cell) == side]
        means: dict[int, float | None] = {}
        for seed in sorted({seed for cell in values.values() for seed in cell}):
            means[seed] = mean_if_whole([cell.get(seed) for cell in own])
        return means


def mean_if_whole(values: Sequence[float | None]) -> float | None:
    """None where one is missing."""
    known = [found for value in values if (found := number(value)) is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def make_design(factors: Sequence[str], fraction: int = 0, order: int = 2) -> Design:
    """The full design, or the fraction of highest resolution and then least aberration (Fries & Hunter 1980) that holds the cell with all factors low.

    Args:
        factors: 2 to `MOST_FACTORS` names.
        fraction: p: 1 for half of the cells, 2 for a quarter, ….
        order: interactions of up to so many factors are among the effects.

    Raises:
        ValueError: with so few cells, main effects could not be told from each other.
    """
    k, free = len(factors), len(factors) - fraction
    assert 2 <= k <= MOST_FACTORS and fraction >= 0 and order >= 1, (factors, fraction, order)
    generators = _generators(k, free)
    if generators is None:
        fits = max(p for p in range(k) if _generators(k, k - p) is not None)
        raise ValueError(f"a fraction of 1/{2**fraction} of {k} factors cannot tell their main effects apart: expected fraction <= {fits}")
    words = _products(generators)
    cells = sorted(
        (cell for cell in itertools.product((False, True), repeat=k) if all(_same_as_low(cell, word) for word in words)),
        key=lambda cell: (sum(cell), [not high for high in cell]),
    )
    return Design(
        factors=tuple(factors),
        cells=tuple(cells),
        words=tuple(_spelt(factors, word) for word in words),
        effects=tuple(_effects(factors, words, order)),
    )


def _generators(k: int, free: int) -> tuple[Word, ...] | None:
    """The words that define the last k − free factors by the first ones, such that the shortest words are as long, and as few, as can be."""
    choices = [frozenset(found) for size in range(free, 1, -1) for found in itertools.combinations(range(free), size)]
    best: tuple[list[int], tuple[Word, ...]] | None = None
    for chosen in itertools.combinations(choices, k - free) if free > 0 else ():
        generators = tuple(word | {free + number} for number, word in enumerate(chosen))
        lengths = [len(word) for word in _products(generators)]
        pattern = [lengths.count(length) for length in range(1, k + 1)]
        if best is None or pattern < best[0]:
            best = pattern, generators
    return None if best is None else best[1]


def _products(generators: Sequence[Word]) -> tuple[Word, ...]:
    """All products of generators: symmetric differences, for the square of a factor is the identity."""
    found: list[Word] = []
    for generator in generators:
        found += [generator, *(generator ^ word for word in found)]
    return tuple(sorted(found, key=lambda word: (len(word), sorted(word))))


def _same_as_low(cell: Sequence[bool], word: Word) -> bool:
    """Whether the product of the word's levels is what it is where all are low."""
    return sum(cell[factor] for factor in word) % 2 == 0


def _spelt(factors: Sequence[str], word: Iterable[int]) -> tuple[str, ...]:
    return tuple(factors[number] for number in sorted(word))


def _effects(factors: Sequence[str], words: Sequence[Word], order: int) -> Iterable[Effect]:
    """Each class of aliases once, by the order of its lowest name; classes whose lowest order is beyond what was asked for are left out."""
    seen: set[Word] = set(words)
    for size in range(1, min(order, len(factors)) + 1):
        for numbers in itertools.combinations(range(len(factors)), size):
            own = frozenset(numbers)
            if own in seen:
                continue
            others = sorted(((own ^ word, word) for word in words), key=lambda pair: (len(pair[0]), sorted(pair[0])))
            seen |= {own, *(other for other, _ in others)}
            # The product of a word's levels is (−1)^length in every cell.
            yield Effect(factors=_spelt(factors, own), aliases=tuple((_spelt(factors, other), (-1) ** len(word)) for other, word in others))
