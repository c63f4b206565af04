"""Spread of places: closed forms, a rejection written out, and drawings that are the dataset's own, all alike, or wrong."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import pytest
from ibllm_shapes.config import PlacementSpreadConfig, ShapesConfig
from ibllm_shapes.dataset import ShapesDataset
from ibllm_shapes.grammar import RELATIONS, relation
from ibllm_shapes.render import render
from ibllm_shapes.scenes import GAP, HALF_WIDTHS, REACH, RELATION_MARGIN, Scenes
from ibllm_shapes.spread import PlacementSpreadMetric, placements, stated

from ibllm_core.interfaces.context import Context

Pixels = npt.NDArray[np.uint8]
N, K = 8, 24
LARGE, SMALL = 0, 1


def reach(size: int) -> float:
    return REACH * HALF_WIDTHS[size]


@pytest.mark.parametrize("size", [LARGE, SMALL])
def test_one_object_lies_anywhere(size: int) -> None:
    """Uniform between half a pixel and its reach from either edge."""
    found = placements((size,), ())
    r = reach(size) + 0.5
    assert found.shape[0] >= 512
    assert found.min() >= r
    assert found.max() <= 32 - r
    np.testing.assert_allclose(found.var(axis=0), [[(32 - 2 * r) ** 2 / 12] * 2], rtol=0.1)


def test_two_objects_lie_as_is_stated_and_anywhere_else() -> None:
    """Against candidates that are drawn and refused one by one."""
    rng, kept, r = np.random.default_rng(0), [], reach(SMALL)
    while len(kept) < 1000:
        (x1, y1), (x2, y2) = (r + 0.5) + rng.uniform(size=(2, 2)) * (31 - 2 * r)
        dx, dy = abs(x1 - x2), abs(y1 - y2)
        if max(dx, dy) >= 2 * r + GAP and abs(dx - dy) >= RELATION_MARGIN and RELATIONS[relation(x1, y1, x2, y2)] == "left of":
            kept.append(((x1, y1), (x2, y2)))
    found = placements((SMALL, SMALL), (RELATIONS.index("left of"),))
    np.testing.assert_allclose(found.mean(axis=0), np.mean(kept, axis=0), atol=1)
    np.testing.assert_allclose(found.std(axis=0), np.std(kept, axis=0), rtol=0.1)


@pytest.mark.parametrize("held_out", ["colour-shape", "relation-shapes"])
def test_three_objects_lie_as_in_the_dataset_s_scenes_of_which_the_caption_is_true(held_out: str) -> None:
    dataset, _ = scenes("free", objects=3, held_out=held_out)
    found = dataset.sampler.scenes("train", np.arange(8000))
    kinds = [(tuple(found.size[i].tolist()), stated(found, i)) for i in range(len(found))]
    (kind, number), *_ = Counter(kinds).most_common()
    chosen = [i for i, one in enumerate(kinds) if one == kind]
    own, given = placements(*kind, held_out == "colour-shape"), np.stack([found.x[chosen], found.y[chosen]], axis=-1)
    assert number > 150
    assert {stated(found, i) for i in chosen} == {kind[1]}
    np.testing.assert_allclose(own.mean(axis=0), given.mean(axis=0), atol=1.5)  # a standard error is up to 0.6 pixels
    np.testing.assert_allclose(own.std(axis=0), given.std(axis=0), rtol=0.25)


def scenes(placement: str, objects: int = 2, **options: Any) -> tuple[ShapesDataset, Any]:
    dataset = ShapesDataset(ShapesConfig(placement=placement, min_objects=objects, max_objects=objects, **options), Context())
    return dataset, dataset.samples("test", np.arange(N))


def redrawn(truth: Scenes, k: int, narrow: float = 1.0) -> Pixels:
    """(k n h w 3) drawings whose places are the dataset's own, or `narrow` times as far from their mean."""
    out = []
    for i in range(N):
        m = int(truth.count[i])
        if truth.placement == "free":
            own = placements(tuple(truth.size[i, :m].tolist()), stated(truth, i))
            centres = own.mean(0) + narrow * (own[:k] - own.mean(0))
        else:
            cell = truth.cell[i, :m]
            middle = np.stack([8 + 16 * (cell % 2), 8 + 16 * (cell // 2)], axis=-1)
            centres = middle + narrow * np.random.default_rng(i).uniform(-1, 1, (k, m, 2))
        again = attrs.evolve(
            truth, **{name: getattr(truth, name)[[i] * k] for name in ("count", "colour", "shape", "size", "cell", "x", "y")}
        )
        again.x[:, :m], again.y[:, :m] = centres[..., 0], centres[..., 1]
        out.append(render(again))
    return np.stack(out, axis=1)


def measured(dataset: ShapesDataset, samples: Any, images: Pixels, **options: Any) -> tuple[PlacementSpreadMetric, Any]:
    known: dict[str, Any] = {}

    class Evaluation(SimpleNamespace):
        def __len__(self) -> int:
            return N

        def once(self, name: str, compute: Any) -> Any:
            return known.setdefault(name, compute()) if name not in known else known[name]

        def draws(self, count: int, items: int) -> Pixels:
            return images[:count, :items]

    metric = PlacementSpreadMetric(PlacementSpreadConfig(draws=len(images), **options), Context())
    return metric, Evaluation(dataset=dataset, samples=samples, captions=samples.captions, hashes={"images": "f00d"})


@pytest.mark.parametrize("placement", ["cells", "free"])
def test_the_dataset_s_own_placements_spread_as_the_data(placement: str) -> None:
    dataset, samples = scenes(placement, colours=10, forms=10)
    metric, evaluation = measured(dataset, samples, redrawn(samples.truth, K))
    found = metric.evaluate(evaluation)
    assert found["placement_spread"] == pytest.approx(1, abs=0.12)  # of N·K drawings; the reader finds centres to a fraction of a pixel
    assert (found["placement_captions"], found["relations_hold"]) == (1, 1)
    narrow = metric_of(dataset, samples, redrawn(samples.truth, K, narrow=0.5))
    assert narrow["placement_spread"] == pytest.approx(0.5, abs=0.06)


def metric_of(dataset: ShapesDataset, samples: Any, images: Pixels) -> dict[str, float]:
    metric, evaluation = measured(dataset, samples, images)
    return metric.evaluate(evaluation)


def test_the_same_drawing_every_time_does_not_spread() -> None:
    dataset, samples = scenes("free")
    found = metric_of(dataset, samples, np.repeat(samples.images[None], 8, 0))
    assert found == {"placement_spread": 0, "placement_captions": 1, "relations_hold": 1}


def test_only_right_drawings_tell_of_spread_and_captions_without_enough_of_them_are_counted() -> None:
    dataset, samples = scenes("free")
    images = redrawn(samples.truth, 8)
    images[:7, :2] = np.roll(images[:7], 1, axis=1)[:, :2]  # of the first two captions one drawing in eight is right, two are needed
    mixed = metric_of(dataset, samples, images)
    assert mixed["placement_captions"] == (N - 2) / N
    assert mixed["relations_hold"] == pytest.approx(1 - 14 / (8 * N))
    blank = metric_of(dataset, samples, np.full_like(images, 40))
    assert blank == {"placement_spread": 0, "placement_captions": 0, "relations_hold": 0}


def test_a_relation_that_does_not_hold_is_seen_whatever_is_right_else() -> None:
    dataset, samples = scenes("free")
    truth = samples.truth
    swapped = attrs.evolve(truth, x=truth.x.copy(), y=truth.y.copy())
    swapped.x[:, :2], swapped.y[:, :2] = truth.x[:, 1::-1], truth.y[:, 1::-1]
    assert metric_of(dataset, samples, np.repeat(render(swapped)[None], 2, 0))["relations_hold"] == 0


def test_captions_of_single_objects_state_no_relation_which_is_said() -> None:
    dataset, samples = scenes("free", objects=1)
    metric, evaluation = measured(dataset, samples, redrawn(samples.truth, 4))
    assert metric.evaluate(evaluation)["relations_hold"] == 1
    assert metric.record(evaluation)["caution relations_hold"] == f"of nothing: none of {N} captions states a relation"
    metric, evaluation = measured(*scenes("cells", objects=1), np.zeros((2, N, 32, 32, 3), np.uint8))
    assert "caution relations_hold" not in metric.record(evaluation)


def test_the_record_and_the_panel_say_what_was_drawn() -> None:
    dataset, samples = scenes("cells")
    metric, evaluation = measured(dataset, samples, redrawn(samples.truth, 10), captions=3)
    metric.evaluate(evaluation)
    record = metric.record(evaluation)
    assert (record["captions"], record["draws"]) == (3, 10)
    assert record["spread of the data in pixels"] == pytest.approx(3**-0.5)  # uniform in ±1
    (panel,) = metric.panels(evaluation)
    assert samples.captions[0] in panel.text
    assert "Of the 10 drawings 10 are right" in panel.text
    assert panel.picture is not None
    assert panel.picture.shape == (2 * 34, 8 * 34, 3)
    np.testing.assert_array_equal(panel.picture[34:66, 34:66], evaluation.draws(10, 3)[9, 0])


def test_data_without_open_places_are_refused() -> None:
    samples = ShapesDataset(ShapesConfig(jitter=0), Context()).samples("test", np.arange(N))
    metric, evaluation = measured(ShapesDataset(ShapesConfig(jitter=0), Context()), samples, np.zeros((2, N, 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="jitter = 0 leaves none open"):
        metric.evaluate(evaluation)
    metric, evaluation = measured(*scenes("count"), np.zeros((2, N, 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="counted ones are all alike"):
        metric.evaluate(evaluation)
    evaluation.dataset = None
    with pytest.raises(ValueError, match="scenes of the dataset shapes"):
        metric.evaluate(evaluation)
