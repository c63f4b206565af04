"""Whether drawings of one caption place their objects as freely as the dataset does. Numpy only.

Shapes: n captions, k drawings of each, m objects of a caption's scene, 2 for x and y in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm.plugin import Metric, Panel, Stream
from ibllm_shapes.config import PlacementSpreadConfig, ShapesConfig
from ibllm_shapes.grammar import relation, scene_facts
from ibllm_shapes.reader import read
from ibllm_shapes.scenes import HALF_WIDTHS, MAX_OBJECTS, REACH, Scenes, SceneSampler

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation

Pixels = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]
#: Placements of the dataset's own that a variance is taken of: its standard error is a sixteenth then.
PLACEMENTS = 512
#: Placements that are drawn at once, and how often, to find those.
_DRAWN, _ROUNDS = 1024, 500
#: Drawings in a row of the panel, and the pixels between them.
_ROW, _GAP = 8, 2
#: The fields of `Scenes` that have an entry for each scene.
_COLUMNS = ("count", "colour", "shape", "size", "cell", "x", "y")
#: Of objects or of the relations between them.
Numbers = tuple[int, ...]


def stated(scenes: Scenes, i: int) -> Numbers:
    """The relations that a caption of scene number i states, places in `grammar.RELATIONS`, of neighbours in their order; none with cells."""
    if scenes.placement == "cells":
        return ()
    x, y = scenes.x[i].tolist(), scenes.y[i].tolist()
    return tuple(relation(x[j], y[j], x[j + 1], y[j + 1]) for j in range(int(scenes.count[i]) - 1))


def placements(sizes: Numbers, relations: Numbers, crowded: bool = True) -> F64:
    """(b m 2) centres at image size 32 of objects of these sizes, as the dataset places them freely, as far as they satisfy the relations.

    By rejection, b is at least `PLACEMENTS`. The same for the same arguments.

    Args:
        crowded: objects that hardly fit go into corners (`SceneSampler._places`); where relations are held out they are drawn until they fit.
    """
    m, found, total = len(sizes), [], 0
    count = np.full(_DRAWN, m)
    size = np.zeros((_DRAWN, MAX_OBJECTS), dtype=np.int64)
    size[:, :m] = sizes
    for attempt in range(_ROUNDS):
        key: tuple[int | str, ...] = ("shapes", "spread", *sizes, *relations, attempt)
        if crowded:
            centre = np.stack(SceneSampler._places(key, np.arange(_DRAWN), count, size), axis=-1)
        else:
            drawn = Stream(key, np.arange(_DRAWN)).uniform(1, MAX_OBJECTS, 2)
            fits, centres = SceneSampler._fits(drawn, REACH * np.array(HALF_WIDTHS)[size], count)
            centre = centres[fits[:, 0], 0]
        dx, dy = np.moveaxis(np.diff(centre[:, :m], axis=1), -1, 0)
        # `grammar.relation` of neighbours, all at once.
        lies = np.where(np.abs(dx) >= np.abs(dy), dx < 0, 2 + (dy < 0))
        right = (lies == np.array(relations, dtype=np.int64)).all(axis=1)
        found.append(centre[right, :m])
        total += int(right.sum())
        if total >= PLACEMENTS:
            return np.concatenate(found)
    raise AssertionError(f"objects of sizes {sizes} hardly ever lie {relations}")


@attrs.frozen(eq=False)
class Drawn:
    """What drawings of captions show.

    Attributes:
        centres: (n k) lists of m centres (x, y), nan for objects that are not there or not sound.
        right: (n k) whether the drawing shows its caption's scene and nothing else.
        holds: (n k) whether every object is there and lies as the caption says.
    """

    centres: list[F64]
    right: Bool
    holds: Bool


def look(truth: Scenes, images: Pixels) -> Drawn:
    """Drawings (k n h w 3) of captions of n scenes, read by the dataset's reader."""
    k, n = images.shape[:2]
    reading = read(images.swapaxes(0, 1).reshape(n * k, *images.shape[2:]), truth.placement, truth.colours, truth.forms)
    seen, centres = reading.scenes, []
    right, holds = np.zeros((n, k), dtype=bool), np.zeros((n, k), dtype=bool)
    for i in range(n):
        wanted, objects, relations = scene_facts(truth, i), _objects(truth, i), stated(truth, i)
        places = np.full((k, len(objects), 2), np.nan)
        for j in range(k):
            row = i * k + j
            there = _objects(seen, row, reading.sound[row])
            for number, one in enumerate(objects):
                if one in there:
                    slot = there[one]
                    places[j, number] = seen.x[row, slot], seen.y[row, slot]
            right[i, j] = reading.clean[row] and seen.count[row] == truth.count[i] and scene_facts(seen, row) == wanted
            x, y = places[j, :, 0], places[j, :, 1]
            lie = all(relation(x[a], y[a], x[a + 1], y[a + 1]) == said for a, said in enumerate(relations))
            holds[i, j] = not np.isnan(x).any() and lie
        centres.append(places)
    return Drawn(centres, right, holds)


def _objects(scenes: Scenes, i: int, chosen: Bool | None = None) -> dict[tuple[int, ...], int]:
    """The objects of scene number i, each with its place among them; with free placement they are different, with cells each has its own."""
    slots = [slot for slot in range(int(scenes.count[i])) if chosen is None or chosen[slot]]
    return {(int(scenes.size[i, s]), int(scenes.colour[i, s]), int(scenes.shape[i, s]), int(scenes.cell[i, s])): s for s in slots}


def _telling(truth: Scenes) -> Bool:
    """(n) whether a caption states a place or a relation."""
    return (truth.count > 1) | (truth.placement == "cells")


class PlacementSpreadMetric(Metric):
    """`placement_spread`, `placement_captions` and `relations_hold`; the first caption's drawings are shown in the report."""

    def __init__(self, config: PlacementSpreadConfig, context: Any) -> None:
        self.config = config

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        truth, drawn = self._truth(evaluation), self._drawn(evaluation)
        own = self._own(evaluation)
        ratios = []
        for i, centres in enumerate(drawn.centres):
            right = centres[drawn.right[i]]
            if len(right) >= self.config.fewest:
                ratios.append(np.sqrt(right.var(axis=0, ddof=1).sum() / own[i]))
        telling = _telling(truth)
        return {
            "placement_spread": float(np.mean(ratios)) if ratios else 0.0,
            "placement_captions": len(ratios) / len(drawn.centres),
            "relations_hold": float(drawn.holds[telling].mean()) if telling.any() else 1.0,
        }

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        truth = self._truth(evaluation)
        numbers = {"captions": len(truth), "draws": self.config.draws, "placements": PLACEMENTS}
        own = {"spread of the data in pixels": float(np.sqrt(np.mean(self._own(evaluation) / (2 * truth.count))))}
        none = {} if _telling(truth).any() else {"caution relations_hold": f"of nothing: none of {len(truth)} captions states a relation"}
        return {**super().record(evaluation), "reader": "shapes", **numbers, **own, **none}

    def panels(self, evaluation: Evaluation) -> Iterable[Panel]:
        truth, images = self._truth(evaluation), self._images(evaluation)
        i = int(truth.count.argmax())
        yield Panel(
            title="Drawings of one caption",
            place="samples",
            text=f"{evaluation.captions[i]}\n\nOf the {self.config.draws} drawings {int(self._drawn(evaluation).right[i].sum())} are right.",
            picture=_sheet(images[:, i]),
            alt=f"{self.config.draws} drawings of the caption: {evaluation.captions[i]}",
        )

    def _truth(self, evaluation: Evaluation) -> Scenes:
        """The scenes of the captions that are drawn."""
        truth, config = evaluation.samples.truth, getattr(evaluation.dataset, "config", None)
        if not (isinstance(truth, Scenes) and isinstance(config, ShapesConfig)):
            raise ValueError("the metric placement_spread reads the scenes of the dataset shapes: use it, or leave the metric out")
        if truth.placement not in ("cells", "free"):
            raise ValueError("the metric placement_spread follows single objects, and counted ones are all alike: leave the metric out")
        if truth.placement == "cells" and config.jitter == 0:
            raise ValueError("the metric placement_spread compares places, and jitter = 0 leaves none open: leave the metric out")
        columns = {name: getattr(truth, name)[: self.config.captions] for name in _COLUMNS}
        return attrs.evolve(truth, **columns)

    def _images(self, evaluation: Evaluation) -> Pixels:
        """(k n h w 3)."""
        number, draws = self.config.captions, self.config.draws
        return evaluation.once(f"shapes.spread.images.{number}.{draws}", lambda: evaluation.draws(draws, number))

    def _drawn(self, evaluation: Evaluation) -> Drawn:
        name = f"shapes.spread.{self.config.captions}.{self.config.draws}"
        return evaluation.once(name, lambda: look(self._truth(evaluation), self._images(evaluation)))

    def _own(self, evaluation: Evaluation) -> F64:
        """(n) the variance that the dataset gives the centres of a caption's objects, all objects and both axes together, in square pixels."""

        def variances() -> F64:
            truth, scale = self._truth(evaluation), evaluation.dataset.image_shape[1] / 32
            if truth.placement == "cells":
                # Both axes are uniform in ±jitter.
                return truth.count * 2 * (evaluation.dataset.config.jitter * scale) ** 2 / 3  # type: ignore[attr-defined]
            crowded = evaluation.dataset.config.held_out != "relation-shapes"  # type: ignore[attr-defined]
            known: dict[tuple[Numbers, Numbers], float] = {}
            found = []
            for i in range(len(truth)):
                alike = tuple(truth.size[i, : truth.count[i]].tolist()), stated(truth, i)
                if alike not in known:
                    known[alike] = float(placements(*alike, crowded).var(axis=0, ddof=1).sum()) * scale**2
                found.append(known[alike])
            return np.array(found)

        return evaluation.once(f"shapes.spread.own.{self.config.captions}", variances)


def _sheet(images: Pixels) -> Pixels:
    """(k h w 3) → (H W 3), some in a row, with gaps between them."""
    padded = np.pad(images, ((0, -len(images) % _ROW), (0, _GAP), (0, _GAP), (0, 0)), constant_values=255)
    rows = [np.concatenate(list(padded[start : start + _ROW]), axis=1) for start in range(0, len(padded), _ROW)]
    return np.concatenate(rows)
