"""The dataset: pure items, splits that keep their promises, captions and questions that are true."""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import numpy as np
import pytest
from ibllm_shapes.config import SPLITS, ShapesConfig
from ibllm_shapes.dataset import ShapesDataset
from ibllm_shapes.render import BACKGROUND, PALETTE
from ibllm_shapes.scenes import Scenes, held_out

from ibllm_core.host.options import OptionError
from ibllm_core.interfaces.context import Context

EVERYTHING = {"languages": ("en", "zh"), "templates": "varied", "questions": True}


def dataset(seed: int = 0, **options: Any) -> ShapesDataset:
    return ShapesDataset(ShapesConfig(**options), Context(seed=seed))


def pairs(scenes: Scenes) -> list[set[tuple[int, int]]]:
    return [{(int(scenes.colour[i, k]), int(scenes.shape[i, k])) for k in range(scenes.count[i])} for i in range(len(scenes))]


@pytest.mark.parametrize("placement", ["cells", "free"])
@pytest.mark.parametrize("split", SPLITS)
def test_an_item_does_not_depend_on_its_batch(placement: str, split: str) -> None:
    indices = np.array([5, 0, 99, 731, 12, 4000, 64, 63])
    together = dataset(placement=placement, **EVERYTHING).samples(split, indices)
    for order in (np.arange(8)[::-1], np.array([3]), np.array([6, 1, 3, 3])):
        again = dataset(placement=placement, **EVERYTHING).samples(split, indices[order])
        assert np.array_equal(again.images, together.images[order])
        for name in ("captions", "languages", "questions", "answers"):
            assert list(getattr(again, name)) == [getattr(together, name)[k] for k in order]
        for field in ("count", "colour", "shape", "size", "cell", "x", "y"):
            assert np.array_equal(getattr(again.truth, field), getattr(together.truth, field)[order], equal_nan=field in "xy")


def test_only_train_follows_the_seed() -> None:
    for split in SPLITS:
        first, other = (dataset(seed).samples(split, np.arange(16)).images for seed in (0, 1))
        assert np.array_equal(first, other) == (split != "train")
    first, other = (dataset(evaluation_seed=seed).samples("novel", np.arange(16)).images for seed in (0, 1))
    assert not np.array_equal(first, other)


def test_captions_do_not_change_the_images() -> None:
    plain, varied = dataset(), dataset(**EVERYTHING)
    assert np.array_equal(plain.samples("test", np.arange(32)).images, varied.samples("test", np.arange(32)).images)


@pytest.mark.parametrize("placement", ["cells", "free"])
def test_splits_keep_their_pairs_apart(placement: str) -> None:
    data = dataset(placement=placement)
    novel, validation = set(data.sampler.novel), set(data.sampler.novel_validation)
    assert not novel & validation
    for split, must in (("train", set()), ("validation", set()), ("test", set()), ("novel", novel), ("novel-validation", validation)):
        seen = set()
        for found in pairs(data.samples(split, np.arange(2048)).truth):
            assert bool(found & must) == bool(must)
            assert not found & ((novel | validation) - must)
            seen |= found
        assert must <= seen
        assert set(data.sampler.training) <= seen


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.17, 0.25])
@pytest.mark.parametrize("seed", range(5))
def test_the_held_out_pairs_are_enough_and_evenly_spread(fraction: float, seed: int) -> None:
    groups = held_out(fraction, seed)
    for group in groups:
        assert len(group) >= fraction * 8 * 6
    for held in (*groups, groups[0] + groups[1]):
        for column, number in ((0, 8), (1, 6)):
            lost = np.bincount([pair[column] for pair in held], minlength=number)
            assert lost.max() - lost.min() <= 1


def test_the_splits_have_the_sizes_asked_for() -> None:
    data = dataset(train_size=100, evaluation_size=7)
    assert dict(data.sizes()) == {"train": 100, "validation": 7, "test": 7, "novel": 7, "novel-validation": 7, "open": 7}
    with pytest.raises(KeyError, match="no split 'nowhere'"):
        data.samples("nowhere", np.arange(1))


def test_canonical_captions_are_one_to_one_with_scenes() -> None:
    samples = dataset().samples("train", np.arange(4096))
    scenes = samples.truth
    keys = [tuple(np.concatenate([scenes.size[i], scenes.colour[i], scenes.shape[i], scenes.cell[i]]).tolist()) for i in range(4096)]
    by_caption = {}
    for caption, key in zip(samples.captions, keys, strict=True):
        assert by_caption.setdefault(caption, key) == key
    assert len(by_caption) == len(set(keys))


@pytest.mark.parametrize("size", [32, 64])
def test_objects_stay_apart(size: int) -> None:
    for placement in ("cells", "free"):
        scenes = dataset(placement=placement, size=size).samples("train", np.arange(1024)).truth
        reach = 1.08 * np.array([6.0, 3.5]) * size / 32
        for i in range(len(scenes)):
            for k in range(scenes.count[i]):
                x, y, r = scenes.x[i, k], scenes.y[i, k], reach[scenes.size[i, k]]
                assert r <= x <= size - r
                assert r <= y <= size - r
            for j, k in itertools.combinations(range(scenes.count[i]), 2):
                gap = max(abs(scenes.x[i, j] - scenes.x[i, k]), abs(scenes.y[i, j] - scenes.y[i, k]))
                assert gap > reach[scenes.size[i, j]] + reach[scenes.size[i, k]] + 1


def test_jitter_bounds_the_centres() -> None:
    for jitter in (0.0, 0.5, 1.0):
        scenes = dataset(jitter=jitter).samples("train", np.arange(512)).truth
        offset = np.stack([scenes.x - 8 - 16 * (scenes.cell % 2), scenes.y - 8 - 16 * (scenes.cell // 2)])[:, scenes.present]
        assert np.abs(offset).max() <= jitter + 1e-9
        assert np.abs(offset).max() >= 0.95 * jitter


def test_an_image_grows_with_its_size() -> None:
    small, large = dataset(size=32).samples("test", np.arange(64)), dataset(size=64).samples("test", np.arange(64))
    assert large.images.shape == (64, 64, 64, 3)
    assert small.captions == large.captions
    shrunk = large.images.reshape(64, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    # Coverage is exact to first order, so thin corners differ by part of a pixel.
    assert np.abs(shrunk - small.images).mean() < 1.0


def test_the_colours_are_well_apart() -> None:
    everything = np.vstack([PALETTE, BACKGROUND[None]])
    distance = np.linalg.norm(everything[:, None] - everything[None], axis=-1) + 1000 * np.eye(len(everything))
    assert distance.min() >= 95


def test_impossible_options_are_refused() -> None:
    for options in (
        {"min_objects": 3, "max_objects": 2},
        {"languages": ()},
        {"languages": ("en", "en")},
        {"size": 40},
        {"placement": "grid"},
    ):
        with pytest.raises(OptionError):
            ShapesConfig(**options)


def test_the_dataset_is_torch_free() -> None:
    import subprocess
    import sys

    code = "import sys, ibllm_shapes.dataset, ibllm_shapes.metrics, ibllm_shapes.plugin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0


def test_scenes_sort_into_reading_order() -> None:
    scenes = dataset().samples("train", np.arange(256)).truth
    mixed = attrs.evolve(scenes, **{name: getattr(scenes, name)[:, ::-1] for name in ("colour", "shape", "size", "cell", "x", "y")})
    full = scenes.count == 3
    assert np.array_equal(mixed.sorted().cell[full], scenes.cell[full])
    assert np.array_equal(mixed.sorted().shape[full], scenes.shape[full])


@pytest.mark.parametrize(
    ("split", "first"),
    [
        ("train", "a large purple cross at the top left, a small white ring at the top right and a small white circle at the bottom left"),
        ("validation", "a large white ring at the bottom right"),
        (
            "test",
            "a large blue circle at the top left, a small white triangle at the top right and a small white circle at the bottom left",
        ),
        ("novel", "a large blue ring at the bottom left"),
        ("novel-validation", "a large green cross at the bottom right"),
    ],
)
def test_every_split_holds_the_items_that_it_always_did(split: str, first: str) -> None:
    """Figures of two versions are of the same items, and of the same split."""
    assert list(dataset().samples(split, np.arange(1)).captions or ()) == [first]
