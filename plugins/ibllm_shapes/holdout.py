"""Which combinations training never shows. Numbers only: what they stand for is in `ibllm_shapes.scenes`."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Stream

if TYPE_CHECKING:
    from ibllm_shapes.config import ShapesConfig

Pair = tuple[int, int]
#: Colour, shape, size.
Kind = tuple[int, int, int]

#: How many sizes there are.
SIZE_NUMBER = 2


def diagonal_walk(rows: int, columns: int, number: int, seed: int) -> list[Pair]:
    """The first `number` places of a walk over all places of a table of shuffled rows and columns, diagonal after diagonal.

    All rows lose equally many places, give or take one, and so do all columns.
    """
    stream = Stream((seed, "shapes", "holdout"), 0)
    row, column, diagonal = stream.permutation(rows)[0], stream.permutation(columns)[0], math.lcm(rows, columns)
    walk = [(int(row[k % rows]), int(column[(k + k // diagonal) % columns])) for k in range(number)]
    assert len(set(walk)) == number, "the walk goes beyond the table"
    return walk


def held_out(fraction: float, seed: int, rows: int = 8, columns: int = 6) -> tuple[list[Pair], list[Pair]]:
    """The pairs kept from training for `novel` and for `novel-validation`, `fraction` of the table each, rounded up."""
    number = math.ceil(fraction * rows * columns)
    walk = diagonal_walk(rows, columns, 2 * number, seed)
    return walk[:number], walk[number:]


class HeldOut:
    """What a dataset's options keep from training.

    Attributes:
        of: which combinations, as in `ShapesConfig.held_out`.
        pairs: (colour, shape) that training has.
        kinds: (colour, shape, size) that training has; empty unless sizes are held out too.
        counts: (number of objects, shape) that training has; empty unless these are held out.
        special: split → combinations of which each of its scenes has one: pairs, kinds, counts or relations.
    """

    def __init__(self, config: ShapesConfig) -> None:
        self.of, self.config = config.held_out, config
        self.pairs: list[Pair] = list(itertools.product(range(config.colours), range(config.forms)))
        self.kinds: list[Kind] = []
        self.counts: list[Pair] = []
        self.special: dict[str, list[tuple[int, ...]]] = {}
        if self.of == "relation-shapes":
            self._relations()
        elif self.of == "count-shape":
            self._counts()
        else:
            self._pairs()
            if self.of == "colour-shape-size":
                self._sizes()

    def _table(self, rows: int, columns: int) -> tuple[list[Pair], list[Pair]]:
        return held_out(self.config.holdout, self.config.holdout_seed, rows, columns)

    def _pairs(self) -> None:
        novel, validation = self._table(self.config.colours, self.config.forms)
        kept_out = {*novel, *validation}
        self.pairs = [pair for pair in self.pairs if pair not in kept_out]
        self.special = {"novel": [*novel], "novel-validation": [*validation]}

    def _sizes(self) -> None:
        """Some colours lose a size too, large and small in turn: for either split the first colours of its walk, as many as the fraction says."""
        config, lost = self.config, dict[int, int]()
        groups: dict[str, list[int]] = {}
        for name, walk in self.special.items():
            free = [colour for colour in dict.fromkeys(pair[0] for pair in walk) if colour not in lost]
            groups[name] = free[: math.ceil(config.holdout * config.colours)]
            lost |= {colour: (len(lost) + k) % SIZE_NUMBER for k, colour in enumerate(groups[name])}
        # Less than half are lost for novel, and the other walk begins behind them.
        assert all(groups.values()), "no colour is left to lose a size"
        of_novel = self.special["novel"]
        for name, walk in tuple(self.special.items()):
            self.special[name] = [(*pair, lost[pair[0]]) for pair in walk if pair[0] in groups[name]]
        sizes = range(SIZE_NUMBER)
        self.special["novel-shape"] = [(*pair, size) for pair in of_novel for size in sizes if lost.get(pair[0]) != size]
        self.special["novel-size"] = [(*pair, lost[pair[0]]) for pair in self.pairs if pair[0] in groups["novel"]]
        self.kinds = [(*pair, size) for pair in self.pairs for size in sizes if lost.get(pair[0]) != size]

    def _relations(self) -> None:
        """Every held-out pair of shapes lacks one of the two axes, turn and turn about, and keeps the other."""
        both = list(itertools.combinations_with_replacement(range(self.config.forms), 2))
        number = self.config.held_out_number()[0]
        order = Stream((self.config.holdout_seed, "shapes", "holdout"), 0).permutation(len(both))[0]
        walk: list[tuple[int, ...]] = [(k % 2, *both[order[k]]) for k in range(2 * number)]
        self.special = {"novel": walk[:number], "novel-validation": walk[number:]}

    def _counts(self) -> None:
        least, numbers = self.config.min_objects, self.config.max_objects - self.config.min_objects + 1
        novel, validation = ([(least + row, shape) for row, shape in part] for part in self._table(numbers, self.config.forms))
        kept_out = {*novel, *validation}
        every = itertools.product(range(least, least + numbers), range(self.config.forms))
        self.counts = [pair for pair in every if pair not in kept_out]
        self.special = {"novel": [*novel], "novel-validation": [*validation]}

    def axes(self) -> npt.NDArray[np.bool_]:
        """(shapes shapes 2) whether two shapes may be related along an axis in training."""
        allowed = np.ones((self.config.forms, self.config.forms, 2), dtype=bool)
        for axis, one, other in itertools.chain(*self.special.values()) if self.of == "relation-shapes" else ():
            allowed[one, other, axis] = allowed[other, one, axis] = False
        return allowed
