"""What a scene is, which combinations are held out, and how scenes are drawn at random: a pure function of (seed, split, index)."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm.plugin import Stream
from ibllm_shapes.config import ShapesConfig

COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan", "orange", "white")
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
SIZES = ("large", "small")
CELLS = ("top left", "top right", "bottom left", "bottom right")
MAX_OBJECTS = 3

#: Half the width of a shape of each size, in pixels at size 32.
HALF_WIDTHS = (6.0, 3.5)
#: Free placement: the gap between two bounding boxes, and by how much the displacement along a relation's axis exceeds the other one,
#: so that "left of" and "above" are never a matter of opinion. In pixels at size 32.
GAP, RELATION_MARGIN = 2.0, 2.0
#: Half of a bounding box relative to the half width: the widest shapes (triangle, diamond) reach this far.
REACH = 1.08

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]


@attrs.frozen(eq=False)
class Scenes:
    """A batch of scenes; objects beyond `count` hold -1 (numbers) or nan (centres).

    Objects are in reading order of their cells (placement "cells") or by size, colour and shape (placement "free").

    Attributes:
        count: (b) number of objects.
        colour, shape, size: (b 3) places in `COLOURS`, `SHAPES`, `SIZES`.
        cell: (b 3) place in `CELLS`; -1 with free placement.
        x, y: (b 3) centres in pixels from the top left corner.
        image_size: height and width of the image in pixels.
        placement: "cells" or "free".
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

    def __len__(self) -> int:
        return len(self.count)

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """(b 3) whether there is an object."""
        return np.arange(MAX_OBJECTS) < self.count[:, None]

    @property
    def order(self) -> I64:
        """(b 3) the permutation that puts the objects in the order described above."""
        key = self.cell if self.placement == "cells" else (self.size * len(COLOURS) + self.colour) * len(SHAPES) + self.shape
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


def held_out(fraction: float, seed: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The (colour, shape) pairs kept from training for `novel` and for `novel-validation`.

    They lie on one diagonal walk over shuffled colours and shapes, so all colours lose equally many pairs, give or take one, and so do all shapes.
    """
    number = math.ceil(fraction * len(COLOURS) * len(SHAPES))
    stream = Stream((seed, "shapes", "holdout"), 0)
    colours, shapes = stream.permutation(len(COLOURS))[0], stream.permutation(len(SHAPES))[0]
    walk = [(int(colours[k % len(COLOURS)]), int(shapes[k % len(SHAPES)])) for k in range(2 * number)]
    assert len(set(walk)) == 2 * number, "the walk repeats itself after lcm(8, 6) steps"
    return walk[:number], walk[number:]


class SceneSampler:
    """Draws the scenes of every split."""

    def __init__(self, config: ShapesConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self.novel, self.novel_validation = held_out(config.holdout, config.holdout_seed)
        kept_out = {*self.novel, *self.novel_validation}
        pairs = [(c, s) for c in range(len(COLOURS)) for s in range(len(SHAPES))]
        self.training = [pair for pair in pairs if pair not in kept_out]

    def key(self, split: str, purpose: str) -> tuple[int | str, ...]:
        """The key of a split's random numbers; only train follows the run's seed."""
        return (self.seed if split == "train" else self.config.evaluation_seed, "shapes", split, purpose)

    def scenes(self, split: str, indices: npt.ArrayLike) -> Scenes:
        """The scenes number `indices` of `split`."""
        config = self.config
        stream = Stream(self.key(split, "scene"), indices)
        count = config.min_objects + stream.integers(config.max_objects - config.min_objects + 1)
        pairs = self._pairs(split, stream)
        size = stream.integers(len(SIZES), MAX_OBJECTS)
        if config.placement == "cells":
            cell = stream.permutation(len(CELLS))[:, :MAX_OBJECTS]
            offset = stream.uniform(MAX_OBJECTS, 2, low=-config.jitter, high=config.jitter)
            x, y = 8.0 + 16.0 * (cell % 2) + offset[..., 0], 8.0 + 16.0 * (cell // 2) + offset[..., 1]
        else:
            cell = np.full_like(size, -1)
            # Relations are stated along the objects' order, so the margin must hold between neighbours of that order.
            unplaced = Scenes(
                count, pairs[..., 0], pairs[..., 1], size, cell, np.empty(size.shape), np.empty(size.shape), config.size, "free"
            )
            pairs, size = np.take_along_axis(pairs, unplaced.order[..., None], axis=1), np.take_along_axis(size, unplaced.order, axis=1)
            x, y = self._places(self.key(split, "place"), np.atleast_1d(np.asarray(indices)), count, size)
        present = np.arange(MAX_OBJECTS) < count[:, None]
        whole = {"colour": pairs[..., 0], "shape": pairs[..., 1], "size": size, "cell": cell}
        scale = config.size / 32
        centres = {"x": np.where(present, x * scale, np.nan), "y": np.where(present, y * scale, np.nan)}
        numbers = {name: np.where(present, value, -1) for name, value in whole.items()}
        return Scenes(count=count, **numbers, **centres, image_size=config.size, placement=config.placement).sorted()

    def held_out_pairs(self, split: str) -> list[tuple[int, int]]:
        """The (colour, shape) pairs that every scene of a split has one of; none for splits of training pairs."""
        return {"novel": self.novel, "novel-validation": self.novel_validation}.get(split, [])

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
    def _fits(drawn: F64, reach: F64, count: I64) -> tuple[npt.NDArray[np.bool_], F64]:
        """Which candidates (b k) keep gaps and margins, and their centres (b k 3 2), for places `drawn` in [0, 1] and bounding boxes of ±`reach` (b 3)."""
        r = reach[:, None, :, None]
        centre = (r + 0.5) + drawn * (31.0 - 2 * r)
        fits = np.ones(drawn.shape[:2], dtype=bool)
        for i, j in ((0, 1), (1, 2), (0, 2)):
            apart = np.abs(centre[:, :, i] - centre[:, :, j])
            clear = apart.max(axis=-1) >= (r[:, :, i] + r[:, :, j] + GAP)[..., 0]
            if j == i + 1:
                clear &= np.abs(apart[..., 0] - apart[..., 1]) >= RELATION_MARGIN
            fits &= clear | (j >= count)[:, None]
        return fits, centre
