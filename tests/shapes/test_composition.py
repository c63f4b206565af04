"""Ten colours and shapes, objects that are counted, and other combinations than colour and shape held out: all of it told apart, and kept apart."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import attrs
import numpy as np
import pytest
from ibllm_shapes.config import ALONE, ShapesConfig
from ibllm_shapes.dataset import ShapesDataset
from ibllm_shapes.grammar import LANGUAGES, facts, scene_facts, template_count, write
from ibllm_shapes.holdout import diagonal_walk
from ibllm_shapes.metrics import caption_objects, drawn_right
from ibllm_shapes.render import render
from ibllm_shapes.scenes import COLOURS, NUMBERS, SHAPES, Scenes, held_out

from ibllm_core.host.options import OptionError
from ibllm_core.interfaces.context import Context

TEN = {"colours": 10, "forms": 10}
COUNTING = {**TEN, "placement": "count", "max_objects": 10, "held_out": "count-shape", "holdout": 0.25}
TWO = {**TEN, "held_out": "colour-shape-size", "holdout": 0.15}
RELATIONS = {"placement": "free", "min_objects": 2, "held_out": "relation-shapes", "holdout": 0.2}


def dataset(seed: int = 0, **options: Any) -> ShapesDataset:
    return ShapesDataset(ShapesConfig(**options), Context(seed=seed))


def truth(data: ShapesDataset, split: str, number: int = 1024) -> Scenes:
    """The scenes of a split's first items, which need not be drawn."""
    return data.sampler.scenes(split, np.arange(number))


@pytest.mark.parametrize(
    ("options", "digest"),
    [
        ({}, "73a01515cf6b9f4c"),
        ({"placement": "free"}, "ca452e8e7e1fb279"),
        ({"languages": ("en", "zh"), "templates": "varied", "questions": True, "jitter": 0.5, "holdout": 0.25}, "41398cfc997a9e2d"),
        (
            {"placement": "free", "languages": ("en", "zh"), "templates": "varied", "questions": True, "size": 48, "holdout_seed": 3},
            "5a9e0462c8b5383b",
        ),
    ],
)
def test_items_are_those_of_earlier_versions(options: dict[str, Any], digest: str) -> None:
    found = hashlib.sha256()
    for split in ("train", "validation", "test", "novel", "novel-validation"):
        samples = dataset(1, **options).samples(split, np.arange(200))
        words = [*(samples.captions or ()), *(samples.questions or ()), *(samples.answers or ())]
        assert samples.images is not None
        found.update(samples.images.tobytes())
        found.update("\n".join(words).encode())
    assert found.hexdigest()[:16] == digest


@pytest.mark.parametrize(
    ("options", "split", "number"),
    [
        (TEN, "test", 512),
        (TEN, "open", 256),
        ({**TEN, "placement": "free"}, "novel", 256),
        (COUNTING, "test", 256),
        ({**COUNTING, "scatter": True}, "novel", 256),
        ({**COUNTING, "size": 48}, "novel", 64),
        (RELATIONS, "novel", 256),
    ],
)
def test_what_is_drawn_is_read_and_what_is_written_is_parsed(options: dict[str, Any], split: str, number: int) -> None:
    """Every colour, shape and number among them."""
    samples = dataset(**options).samples(split, np.arange(number))
    scenes = samples.truth
    whole, single = drawn_right(scenes, samples.images)
    assert whole.mean() >= 0.999
    assert (single == scenes.count).mean() >= 0.999
    if number >= 256 and scenes.forms == 10:
        assert len(np.unique(scenes.shape[scenes.present])) == len(np.unique(scenes.colour[scenes.present])) == 10
        assert set(scenes.count.tolist()) == (
            set(range(1, 11)) if scenes.placement == "count" else {2, 3} if split == "open" else {1, 2, 3}
        )
    for i in range(0, number, 16):
        for code in LANGUAGES:
            one = one_of(scenes, i)
            for caption in (write(one, [code], [k])[0] for k in range(template_count(scenes.placement, code))):
                assert facts(caption, scenes.placement) == facts(caption, scenes.placement, code) == scene_facts(scenes, i)
    assert caption_objects(scenes, samples.captions) == (1.0, 1.0)


def one_of(scenes: Scenes, row: int) -> Scenes:
    """One scene of several."""
    columns = {name: getattr(scenes, name)[row : row + 1] for name in ("count", "colour", "shape", "size", "cell", "x", "y")}
    return attrs.evolve(scenes, **columns)


def test_the_reader_takes_no_colour_or_shape_that_the_data_lack() -> None:
    scenes = truth(dataset(**TEN), "test", 256)
    new = ((scenes.colour >= 8) | (scenes.shape >= 6)).any(axis=1)
    whole, _ = drawn_right(attrs.evolve(scenes, colours=8, forms=6), render(scenes))
    assert np.array_equal(whole, ~new)


def test_counting_captions_read_as_documented() -> None:
    samples = dataset(**COUNTING).samples("test", np.arange(64))
    scenes = samples.truth
    for i, caption in enumerate(samples.captions):
        n, colour, shape = scenes.count[i], COLOURS[scenes.colour[i, 0]], SHAPES[scenes.shape[i, 0]]
        several = {"cross": "crosses"}.get(shape, f"{shape}s")
        assert caption == f"{NUMBERS[n - 1]} {colour} {several if n > 1 else shape}"
        assert scene_facts(scenes, i) == {(NUMBERS[n - 1], colour, shape)}
    assert facts("七个红色的圆形", "count") == facts("there are seven red circles", "count") == {("seven", "red", "circle")}
    for wrong in (
        "seven red circle",
        "one red circles",
        "there are one red circle",
        "seven circles",
        "eleven red circles",
        "seven small red circles",
    ):
        assert facts(wrong, "count") is None


def test_one_too_few_is_wrong_and_the_others_still_count() -> None:
    scenes = truth(dataset(**COUNTING), "test", 128)
    several = np.flatnonzero(scenes.count > 1)
    images = render(attrs.evolve(scenes, count=np.where(scenes.count > 1, scenes.count - 1, 1)))
    whole, single = drawn_right(scenes, images)
    assert not whole[several].any()
    assert np.array_equal(single[several], scenes.count[several] - 1)
    more, objects = drawn_right(attrs.evolve(scenes, count=np.maximum(scenes.count - 1, 1)), render(scenes))
    assert not more[several].any()
    assert np.array_equal(objects[several], scenes.count[several] - 1)


@pytest.mark.parametrize(("rows", "columns"), [(10, 10), (8, 6), (10, 6), (7, 3), (4, 10)])
def test_the_walk_visits_every_place_once_and_evenly(rows: int, columns: int) -> None:
    walk = diagonal_walk(rows, columns, rows * columns, seed=4)
    assert len(set(walk)) == rows * columns
    for number in range(1, rows * columns + 1, 3):
        for column, values in ((0, rows), (1, columns)):
            lost = np.bincount([place[column] for place in walk[:number]], minlength=values)
            assert lost.max() - lost.min() <= 1


@pytest.mark.parametrize("holdout", [0.05, 0.15, 0.25, 0.4, 0.45])
def test_each_colour_and_shape_is_left_to_training(holdout: float) -> None:
    data = dataset(**TEN, holdout=holdout)
    novel, validation = held_out(holdout, 0, 10, 10)
    assert (data.sampler.novel, data.sampler.novel_validation) == (novel, validation)
    assert not {*novel, *validation} & set(data.sampler.training)
    assert len(novel) + len(validation) + len(data.sampler.training) == 100
    assert len(novel) == len(validation) == round(100 * holdout)
    for column in (0, 1):
        assert {pair[column] for pair in data.sampler.training} == set(range(10))
    for split, must in (("train", set()), ("novel", set(novel)), ("novel-validation", set(validation))):
        scenes = truth(data, split)
        for i in range(len(scenes)):
            pairs = {(int(scenes.colour[i, k]), int(scenes.shape[i, k])) for k in range(scenes.count[i])}
            assert bool(pairs & must) == bool(must)
            assert not pairs & ({*novel, *validation} - must)


def test_numbers_of_a_shape_are_held_out() -> None:
    data = dataset(**COUNTING)
    held = {split: set(data.sampler.held.special[split]) for split in ("novel", "novel-validation")}
    assert len(held["novel"]) == len(held["novel-validation"]) == 25
    seen = {
        split: set(zip((s := truth(data, split, 4096)).count.tolist(), s.shape[:, 0].tolist(), strict=True)) for split in ("train", *held)
    }
    assert seen["train"] == set(data.sampler.held.counts)
    assert {n for n, _ in seen["train"]} == set(range(1, 11))
    assert {shape for _, shape in seen["train"]} == set(range(10))
    for split, own in held.items():
        assert seen[split] == own
        assert not own & seen["train"]
    assert not held["novel"] & held["novel-validation"]


@pytest.mark.parametrize("holdout", [0.05, 0.15, 0.4])
def test_two_unseen_combinations_meet_in_one_object(holdout: float) -> None:
    data = dataset(**{**TWO, "holdout": holdout})
    trained = truth(data, "train", 4096)
    there = trained.present
    shapes = set(zip(trained.colour[there].tolist(), trained.shape[there].tolist(), strict=True))
    sizes = set(zip(trained.colour[there].tolist(), trained.size[there].tolist(), strict=True))
    assert {colour for colour, _ in sizes} == set(range(10))
    assert {size for _, size in sizes} == {0, 1}
    assert {shape for _, shape in shapes} == set(range(10))
    expected = {"test": (0, 0), "novel": (1, 1), "novel-validation": (1, 1), "novel-shape": (1, 0), "novel-size": (0, 1)}
    for split, (unseen_shape, unseen_size) in expected.items():
        scenes = truth(data, split)
        for i in range(0, len(scenes), 3):
            found = {
                ((c, s) not in shapes, (c, z) not in sizes)
                for c, s, z in zip(scenes.colour[i].tolist(), scenes.shape[i].tolist(), scenes.size[i].tolist(), strict=True)
                if c >= 0
            }
            assert found - {(False, False)} == ({(bool(unseen_shape), bool(unseen_size))} - {(False, False)}), split
    assert set(ALONE) <= set(data.config.splits())
    assert data.config.reported_splits() == ("test", "novel", *ALONE)
    first, second = (set(data.sampler.held.special[split]) for split in ("novel", "novel-validation"))
    assert first
    assert second
    assert not first & second


def related(scenes: Scenes, i: int) -> set[tuple[int, int, int]]:
    """Axis and shapes of neighbours."""
    found = set()
    for j, k in itertools.pairwise(range(scenes.count[i])):
        axis = int(abs(scenes.x[i, j] - scenes.x[i, k]) < abs(scenes.y[i, j] - scenes.y[i, k]))
        found.add((axis, *sorted((int(scenes.shape[i, j]), int(scenes.shape[i, k])))))
    return found


@pytest.mark.parametrize("options", [{}, {"min_objects": 3, "holdout": 0.23}])
def test_relations_of_two_shapes_are_held_out_along_one_axis(options: dict[str, Any]) -> None:
    data = dataset(**{**RELATIONS, **options})
    held = {split: set(data.sampler.held.special[split]) for split in ("novel", "novel-validation")}
    kept_out = held["novel"] | held["novel-validation"]
    # Whatever is held out along one axis is seen along the other.
    assert len({shapes for _, *shapes in map(list, kept_out) for shapes in [tuple(shapes)]}) == len(kept_out)
    seen: set[tuple[int, int, int]] = set()
    for split in ("train", "test", *held):
        scenes = truth(data, split, 2048 if split == "train" else 256)
        for i in range(len(scenes)):
            found = related(scenes, i)
            assert bool(found & kept_out) == (split in held)
            assert not found & (kept_out - held.get(split, set()))
            seen |= found if split == "train" else set()
    # Of every two shapes training shows one relation or both.
    assert {(one, other) for _, one, other in seen} == set(itertools.combinations_with_replacement(range(6), 2))
    assert {(axis, shape) for axis, one, other in seen for shape in (one, other)} == set(itertools.product((0, 1), range(6)))


@pytest.mark.parametrize("options", [COUNTING, {**COUNTING, "scatter": True}, TWO, RELATIONS, {**TEN, "placement": "count"}])
def test_an_item_does_not_depend_on_its_batch(options: dict[str, Any]) -> None:
    indices = np.array([5, 0, 99, 731, 12, 4000])
    for split in ("train", "novel"):
        together = dataset(**options).samples(split, indices)
        for k in range(len(indices)):
            alone = dataset(**options).samples(split, indices[k : k + 1])
            assert alone.captions == together.captions[k : k + 1]
            assert np.array_equal(alone.images[0], together.images[k])
    assert not np.array_equal(
        dataset(1, **options).samples("train", indices).images, dataset(2, **options).samples("train", indices).images
    )


def test_the_open_split_is_placed_anywhere_and_told_by_relations() -> None:
    data = dataset(jitter=0.5)
    samples = data.samples("open", np.arange(256))
    assert samples.truth.placement == "free"
    assert set(samples.truth.count.tolist()) == {2, 3}
    assert all(any(word in caption for word in ("left of", "right of", "above", "below")) for caption in samples.captions)
    again = dataset(placement="free").samples("open", np.arange(256))
    assert again.captions == samples.captions
    assert np.array_equal(again.images, samples.images)
    assert "open" not in ShapesConfig(placement="count").splits()
    trained = set(data.sampler.training)
    assert {pair for i in range(256) for pair in zip(samples.truth.colour[i].tolist(), samples.truth.shape[i].tolist(), strict=True)} - {
        (-1, -1)
    } <= trained


@pytest.mark.parametrize(
    "options",
    [
        {"holdout": 0.45},
        {"max_objects": 4},
        {"placement": "free", "max_objects": 10},
        {"held_out": "relation-shapes"},
        {"held_out": "relation-shapes", "placement": "free"},
        {"held_out": "count-shape"},
        {"held_out": "count-shape", "placement": "count", "min_objects": 3},
        {**RELATIONS, "holdout": 0.3},
        {"placement": "count", "questions": True},
        {"placement": "count", "held_out": "colour-shape-size"},
        {"scatter": True},
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="expected"):
        ShapesConfig(**options)


@pytest.mark.parametrize("colours", range(2, 11))
def test_any_numbers_of_colours_and_shapes_go_together(colours: int) -> None:
    for forms, holdout in itertools.product((2, 3, 10), (0.01, 0.2)):
        for held in ("colour-shape", "colour-shape-size"):
            try:
                config = ShapesConfig(colours=colours, forms=forms, holdout=holdout, held_out=held)
            except OptionError:
                assert min(colours, forms) == 2
                continue
            data = ShapesDataset(config, Context())
            for split in config.splits():
                assert len(data.samples(split, np.arange(4))) == 4
