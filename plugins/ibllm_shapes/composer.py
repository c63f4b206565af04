"""Captions of `shapes` taken apart into objects and cells, and written: what worlds larger than an image are made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ibllm_shapes.config import ShapesConfig
from ibllm_shapes.grammar import LANGUAGES, Fact, Facts, Object, facts, phrases, scene_facts
from ibllm_shapes.reader import read
from ibllm_shapes.scenes import CELLS, COLOURS, GRIDS, SHAPES, SIZES


class ShapesComposer:
    """Objects are ``(size, colour, shape)``; cells are numbered as `CELLS` are."""

    def __init__(self, config: ShapesConfig) -> None:
        self.config, self.placement = config, config.placement
        self.grid = (GRIDS["cells"], GRIDS["cells"]) if config.placement == "cells" else None
        self.least, self.most = config.min_objects, config.max_objects
        self.example = phrases(config.languages[0])[0]

    def thing(self, phrase: str) -> Object | None:
        """The object that a phrase names, where the data have its colour and its shape."""
        found = self._facts(phrase, "free")
        named = _object(next(iter(found))) if found is not None and len(found) == 1 else None
        return named if named is not None and self._has(named) else None

    def things(self, caption: str) -> Mapping[int, Object] | None:
        """Cell → object; None but with the placement ``cells``."""
        found = self._facts(caption, "cells") if self.placement == "cells" else None
        if found is None or not all(self._has(_object(fact)) for fact in found):
            return None
        return {CELLS.index(str(fact[3])): _object(fact) for fact in found}

    def language(self, text: str) -> str:
        return next(code for code in self.config.languages if any(facts(text, p, code) for p in ("free", self.placement)))

    def write(self, things: Mapping[int, Object], language: str) -> str:
        """The canonical caption, objects in reading order."""
        words, slots = LANGUAGES[language], {}
        for k, cell in enumerate(sorted(things), 1):
            size, colour, shape = (names.index(name) for names, name in zip((SIZES, COLOURS, SHAPES), things[cell], strict=True))
            phrase = words.phrase.format(size=words.sizes[size], colour=words.colours[colour], shape=words.shapes[shape])
            slots.update({f"o{k}": phrase, f"p{k}": words.cells[cell]})
        return words.cell_templates[0][len(things) - 1].format_map(slots)

    def same(self, caption: str, other: str) -> bool:
        found = facts(caption, self.placement)
        return found is not None and found == facts(other, self.placement)

    def shows(self, images: npt.NDArray[np.uint8], captions: Sequence[str]) -> npt.NDArray[np.bool_]:
        """(b) as `ibllm_shapes.metrics.drawn_right` judges; for images (b h w 3) of the dataset's size."""
        reading = read(images, self.placement, self.config.colours, self.config.forms)
        said = [facts(caption, self.placement) == scene_facts(reading.scenes, i) for i, caption in enumerate(captions)]
        return reading.clean & np.array(said, dtype=bool)

    def _facts(self, text: str, placement: str) -> Facts | None:
        """What a text says, in one of the dataset's languages."""
        return next((found for code in self.config.languages if (found := facts(text, placement, code)) is not None), None)

    def _has(self, named: Object) -> bool:
        return named[1] in COLOURS[: self.config.colours] and named[2] in SHAPES[: self.config.forms]


def _object(fact: Fact) -> Object:
    """Size, colour and shape of a fact about an object."""
    return tuple(str(word) for word in fact[:3])
