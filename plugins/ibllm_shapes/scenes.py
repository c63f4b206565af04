"""What a scene is, which combinations are held out, and how scenes are drawn at random: a pure function of (seed, split, index)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm.plugin import Stream
from ibllm_shapes.config import MOST, ShapesConfig
from ibllm_shapes.holdout import HeldOut, held_out

__all__ = ["CELLS", "COLOURS", "GRIDS", "MAX_OBJECTS", "NUMBERS", "SHAPES", "SIZES", "SceneSampler", "Scenes", "held_out"]

#: A dataset has the first eight colours and the first six shapes unless its options say otherwise.
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan", "orange", "white", "pink", "mint")
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring", "frame", "heart", "pillar", "crescent")
SIZES = ("large", "small")
CELLS = ("top left", "top right", "bottom left", "bottom right")
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
#: Objects of a scene whose captions name each of them.
MAX_OBJECTS = 3
#: Placement → cells in a row and in a column, where there are cells.
GRIDS = {"cells": 2, "count": 4}
#: The size of objects that are counted, and the share of `jitter` that their cells have room for.
COUNTED_SIZE, COUNTED_JITTER = 1, 0.2

#: Half the width of a shape of each size, in pixels at size 32.
HALF_WIDTHS = (6.0, 3.5)
#: Free placement: the gap between two bounding boxes, and by how much the displacement along a relation's axis exceeds the other one,
#: so that "left of" and "above" are never a matter of opinion. In pixels at size 32.
GAP, RELATION_MARGIN = 2.0, 2.0
#: Half of a bounding box relative to the half width: the widest shapes (triangle, diamond) reach this far.
REACH = 1.08

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


@attrs.frozen(eq=False)
class Scenes:
    """A batch of scenes; objects beyond `count` hold -1 (numbers) or nan (centres).

    Objects are in reading order of their cells (placements "cells" and "count") or by size, colour and shape (placement "free"). k is the most
    objects that a scene of its placement has.

    Attributes:
        count: (b) number of objects.
        colour, shape, size: (b k) places in `COLOURS`, `SHAPES`, `SIZES`.
        cell: (b k) place in reading order, with "cells" in `CELLS`; -1 with free placement.
        x, y: (b k) centres in pixels from the top left corner.
        image_size: height and width of the image in pixels.
        placement: "cells", "free" or "count".
        colours, forms: how many colours and shapes there are to tell apart.
    """

    count: I64
    colour: I64
    shape: I64
    size: I64
    cell: I64
    x: F64
    y: F64
    image_size: int
    placement: str
    colours: int = 8
    forms: int = 6

    def __len__(self) -> int:
        return len(self.count)

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """(b k) whether there is an object."""
        return np.arange(self.colour.shape[1]) < self.count[:, None]

    @property
    def order(self) -> I64:
        """(b k) the permutation that puts the objects in the order described above."""
        key = self.cell if self.placement in GRIDS else (self.size * len(COLOURS) + self.colour) * len(SHAPES) + self.shape
        return np.argsort(np.where(self.present, key, np.iinfo(np.int64).max), axis=1, kind="stable")

    def sorted(self) -> Scenes:
        """The same scenes with their objects in order."""
        order = self.order

        def moved(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.take_along_axis(values, order, axis=1)

        return attrs.evolve(
            self,
            colour=moved(self.colour),
            shape=moved(self.shape),
            size=moved(self.size),
            cell=moved(self.cell),
            x=moved(self.x),
            y=moved(self.y),
        )


class SceneSampler:
    """Draws the scenes of every split.

    Attributes:
        training: (colour, shape) that training has.
        novel, novel_validation: what the scenes of these splits have one of and no other split has, see `HeldOut.special`.
    """

    def __init__(self, config: ShapesConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self.held = HeldOut(config)
        self.training = self.held.pairs
        self.novel, self.novel_validation = self.held.special["novel"], self.held.special["novel-validation"]

    def key(self, split: str, purpose: str) -> tuple[int | str, ...]:
        """The key of a split's random numbers; only train follows the run's seed."""
        return (self.seed if split == "train" else self.config.evaluation_seed, "shapes", split, purpose)

    def by(self, config: ShapesConfig) -> SceneSampler:
        """The sampler with live options of another state; what is held out is the same."""
        if config is self.config:
            return self
        other = copy.copy(self)
        other.config = config
        return other

    def scenes(self, split: str, indices: npt.ArrayLike) -> Scenes:
        """The scenes number `indices` of `split`."""
        if split == "open":
            # A single object would have no relation.
            least = min(2, self.config.max_objects)
            free = attrs.evolve(self.config, placement="free", min_objects=max(least, self.config.min_objects))
            return SceneSampler(free, self.seed)._drawn(split, np.atleast_1d(np.asarray(indices)))
        return self._drawn(split, np.atleast_1d(np.asarray(indices)))

    def _drawn(self, split: str, indices: I64) -> Scenes:
        config = self.config
        if config.placement == "count":
            return self._counted(split, indices)
        if config.held_out == "relation-shapes":
            return self._related(split, indices)
        stream = Stream(self.key(split, "scene"), indices)
        count = config.min_objects + stream.integers(config.max_objects - config.min_objects + 1)
        pairs, size = self._kinds(split, stream)
        if config.placement == "cells":
            cell = stream.permutation(len(CELLS))[:, :MAX_OBJECTS]
            offset = stream.uniform(MAX_OBJECTS, 2, low=-config.jitter, high=config.jitter)
            return self._finished(count, pairs, size, cell, *_centres(cell, offset, GRIDS["cells"]))
        # Relations are stated along the objects' order, so the margin must hold between neighbours of that order.
        order = self._order(count, pairs, size)
        pairs, size = np.take_along_axis(pairs, order[..., None], axis=1), np.take_along_axis(size, order, axis=1)
        x, y = self._places(self.key(split, "place"), indices, count, size)
        return self._finished(count, pairs, size, np.full_like(size, -1), x, y)

    def _finished(self, count: I64, pairs: I64, size: I64, cell: I64, x: F64, y: F64) -> Scenes:
        """Scenes of objects with centres at size 32; whatever is beyond `count` is taken away."""
        config = self.config
        present, scale = np.arange(size.shape[1]) < count[:, None], config.size / 32

        def kept(numbers: I64) -> I64:
            return np.where(present, numbers, -1)

        return Scenes(
            count=count,
            colour=kept(pairs[..., 0]),
            shape=kept(pairs[..., 1]),
            size=kept(size),
            cell=kept(cell),
            x=np.where(present, x * scale, np.nan),
            y=np.where(present, y * scale, np.nan),
            image_size=config.size,
            placement=config.placement,
            colours=config.colours,
            forms=config.forms,
        ).sorted()

    @staticmethod
    def _order(count: I64, pairs: I64, size: I64) -> I64:
        """(b 3) the objects by size, colour and shape."""
        nowhere = np.empty(size.shape)
        return Scenes(count, pairs[..., 0], pairs[..., 1], size, np.full_like(size, -1), nowhere, nowhere, 32, "free").order

    def held_out_pairs(self, split: str) -> list[tuple[int, int]]:
        """The (colour, shape) pairs never seen in training that scenes of a split have; none for splits of training pairs."""
        if self.held.of not in ("colour-shape", "colour-shape-size") or split == "novel-size":
            return []
        return list(dict.fromkeys((found[0], found[1]) for found in self.held.special.get(split, [])))

    def named_kinds(self, split: str) -> frozenset[tuple[int, ...]]:
        """The (colour, shape, size) that texts of a split may name; empty where sizes are not held out."""
        return frozenset([*self.held.kinds, *self.held.special.get(split, [])]) if self.held.kinds else frozenset()

    def _kinds(self, split: str, stream: Stream) -> tuple[I64, I64]:
        """(b 3 2) colour and shape and (b 3) size of each object; the first one is held out where the split asks for it."""
        kinds, special = self.held.kinds, self.held.special.get(split, [])
        if not kinds:
            pairs = self._pairs(split, stream)
            return pairs, stream.integers(len(SIZES), MAX_OBJECTS)
        training = np.array(kinds, dtype=np.int64)
        if self.config.placement == "free":  # different kinds, so that a phrase means one object
            chosen = stream.permutation(len(training))[:, :MAX_OBJECTS]
        else:
            chosen = stream.integers(len(training), MAX_OBJECTS)
        found = training[chosen]
        if special:
            found[:, 0] = np.array(special, dtype=np.int64)[stream.integers(len(special))]
        return found[..., :2], found[..., 2]

    def _pairs(self, split: str, stream: Stream) -> I64:
        """(b 3 2) colour and shape of each object; the first one is held out where the split asks for it."""
        training = np.array(self.training, dtype=np.int64)
        if self.config.placement == "free":  # different pairs, so that a phrase means one object
            chosen = stream.permutation(len(training))[:, :MAX_OBJECTS]
        else:
            chosen = stream.integers(len(training), MAX_OBJECTS)
        pairs = training[chosen]
        special = self.held_out_pairs(split)
        if special:
            pairs[:, 0] = np.array(special, dtype=np.int64)[stream.integers(len(special))]
        return pairs

    def _counted(self, split: str, indices: I64) -> Scenes:
        """Scenes of objects that are all alike."""
        config, held, most = self.config, self.held, MOST["count"]
        stream = Stream(self.key(split, "scene"), indices)
        if held.of == "count-shape":
            found = _chosen(held.special.get(split, held.counts), stream)
            count, shape, colour = found[:, 0], found[:, 1], stream.integers(config.colours)
        else:
            count = config.min_objects + stream.integers(config.max_objects - config.min_objects + 1)
            pair = _chosen(held.special.get(split, held.pairs), stream)
            colour, shape = pair[:, 0], pair[:, 1]
        cells = GRIDS["count"] ** 2
        cell = stream.permutation(cells)[:, :most] if config.scatter else np.tile(np.arange(most), (len(indices), 1))
        jitter = COUNTED_JITTER * config.jitter
        offset = stream.uniform(most, 2, low=-jitter, high=jitter)
        pairs = np.stack([colour, shape], axis=-1)[:, None].repeat(most, axis=1)
        return self._finished(count, pairs, np.full(cell.shape, COUNTED_SIZE), cell, *_centres(cell, offset, GRIDS["count"]))

    def _related(self, split: str, indices: I64, candidates: int = 32) -> Scenes:
        """Scenes whose neighbours, in their order, are related as training shows it, but for one held-out relation where the split asks for it.

        By rejection: objects and their places are drawn until they fit.
        """
        config, special = self.config, np.array(self.held.special.get(split, []), dtype=np.int64)
        pairs, size = np.zeros((len(indices), MAX_OBJECTS, 2), dtype=np.int64), np.zeros((len(indices), MAX_OBJECTS), dtype=np.int64)
        count, places = np.zeros(len(indices), dtype=np.int64), np.full((len(indices), MAX_OBJECTS, 2), np.nan)
        waiting, every = np.arange(len(indices)), np.array(self.training, dtype=np.int64)
        for attempt in range(1000):
            stream = Stream((*self.key(split, "scene"), attempt), indices[waiting])
            n = config.min_objects + stream.integers(config.max_objects - config.min_objects + 1)
            found = every[stream.permutation(len(every))[:, :MAX_OBJECTS]]
            z, wanted = stream.integers(len(SIZES), MAX_OBJECTS), None
            if len(special):
                wanted = special[stream.integers(len(special))]
                found[:, :2, 1] = wanted[:, 1:]
            order = self._order(n, found, z)
            found, z = np.take_along_axis(found, order[..., None], axis=1), np.take_along_axis(z, order, axis=1)
            right, allowed = self._may_lie(found, n, wanted)
            fits, centre = self._fits(stream.uniform(candidates, MAX_OBJECTS, 2), REACH * np.array(HALF_WIDTHS)[z], n, allowed)
            done = right & fits.any(axis=1)
            rows, first = waiting[done], fits.argmax(axis=1)[done]
            pairs[rows], size[rows], count[rows], places[rows] = found[done], z[done], n[done], centre[done, first]
            waiting = waiting[~done]
            if not len(waiting):
                return self._finished(count, pairs, size, np.full_like(size, -1), places[..., 0], places[..., 1])
        raise AssertionError("no scene has the relation that was asked for")

    def _may_lie(self, pairs: I64, count: I64, wanted: I64 | None) -> tuple[Bool, Bool]:
        """(b) whether objects are different and have the wanted shapes beside each other, and (b 2 2) the axes along which neighbours may lie.

        Args:
            wanted: (b 3) the held-out axis of the first neighbours that have these two shapes.
        """
        shape = pairs[..., 1]
        allowed: Bool = self.held.axes()[shape[:, :-1], shape[:, 1:]]
        number = pairs[..., 0] * len(SHAPES) + shape
        same = [(number[:, i] == number[:, j]) & (j < count) for i, j in ((0, 1), (1, 2), (0, 2))]
        right: Bool = ~np.logical_or.reduce(same)
        if wanted is not None:
            low, high = np.minimum(shape[:, :-1], shape[:, 1:]), np.maximum(shape[:, :-1], shape[:, 1:])
            there = (low == wanted[:, None, 1]) & (high == wanted[:, None, 2]) & (np.arange(1, MAX_OBJECTS) < count[:, None])
            right &= there.any(axis=1)
            allowed[np.arange(len(pairs)), there.argmax(axis=1)] = np.arange(2) == wanted[:, None, 0]
        return right, allowed

    @staticmethod
    def _places(key: tuple[int | str, ...], indices: I64, count: I64, size: I64, candidates: int = 16) -> tuple[F64, F64]:
        """(b 3) centres x and y at size 32, by rejection: each item takes its first candidate that fits.

        Candidates are uniform at first; an item that none of those fits (three large objects leave little room) goes on with candidates near different
        corners.
        """
        reach = REACH * np.array(HALF_WIDTHS)[size]
        places = np.full((len(indices), MAX_OBJECTS, 2), np.nan)
        waiting = np.arange(len(indices))
        for attempt in range(100):
            stream = Stream((*key, attempt), indices[waiting])
            drawn = stream.uniform(candidates, MAX_OBJECTS, 2)
            if attempt:
                corner = np.argsort(stream.uniform(candidates, len(CELLS)), axis=-1)[..., :MAX_OBJECTS]
                drawn *= 0.12
                drawn = np.where(np.stack([corner % 2, corner // 2], axis=-1) == 1, 1 - drawn, drawn)
            fits, centre = SceneSampler._fits(drawn, reach[waiting], count[waiting])
            found, first = fits.any(axis=1), fits.argmax(axis=1)
            places[waiting[found]] = centre[found, first[found]]
            waiting = waiting[~found]
            if not len(waiting):
                return places[..., 0], places[..., 1]
        raise AssertionError("no room for the objects of a scene")

    @staticmethod
    def _fits(drawn: F64, reach: F64, count: I64, allowed: Bool | None = None) -> tuple[Bool, F64]:
        """Which candidates (b k) keep gaps and margins, and their centres (b k 3 2), for places `drawn` in [0, 1] and bounding boxes of ±`reach` (b 3).

        Args:
            allowed: (b 2 2) the axes along which neighbours may lie; both where left out.
        """
        r = reach[:, None, :, None]
        centre = (r + 0.5) + drawn * (31.0 - 2 * r)
        fits = np.ones(drawn.shape[:2], dtype=bool)
        for i, j in ((0, 1), (1, 2), (0, 2)):
            apart = np.abs(centre[:, :, i] - centre[:, :, j])
            clear = apart.max(axis=-1) >= (r[:, :, i] + r[:, :, j] + GAP)[..., 0]
            if j == i + 1:
                clear &= np.abs(apart[..., 0] - apart[..., 1]) >= RELATION_MARGIN
                if allowed is not None:
                    clear &= np.where(apart[..., 0] >= apart[..., 1], allowed[:, None, i, 0], allowed[:, None, i, 1])
            fits &= clear | (j >= count)[:, None]
        return fits, centre


def _centres(cell: I64, offset: F64, grid: int) -> tuple[F64, F64]:
    """(b k) centres x and y at size 32 of objects in cells of a square grid, moved by `offset` (b k 2)."""
    width = 32 / grid
    return width / 2 + width * (cell % grid) + offset[..., 0], width / 2 + width * (cell // grid) + offset[..., 1]


def _chosen(combinations: Sequence[tuple[int, ...]], stream: Stream) -> I64:
    """(b …) one of some combinations for each item."""
    found: I64 = np.array(combinations, dtype=np.int64)[stream.integers(len(combinations))]
    return found
