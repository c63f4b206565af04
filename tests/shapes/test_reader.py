"""The reader: right on what was drawn, and no reading of what is not a clean scene."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import pytest
from ibllm_shapes.config import ShapesConfig
from ibllm_shapes.dataset import ShapesDataset
from ibllm_shapes.grammar import scene_facts
from ibllm_shapes.metrics import drawn_right
from ibllm_shapes.reader import Reading, read
from ibllm_shapes.render import BACKGROUND, render
from ibllm_shapes.scenes import Scenes
from scipy.ndimage import gaussian_filter

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.dataset import Samples

ITEMS = 256
PLACEMENTS = ["cells", "free"]
Images = npt.NDArray[Any]


def draw(placement: str, split: str = "test", number: int = ITEMS, **options: Any) -> Samples:
    return ShapesDataset(ShapesConfig(placement=placement, **options), Context()).samples(split, np.arange(number))


def picture(values: Images) -> npt.NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def right(truth: Scenes, reading: Reading) -> npt.NDArray[np.bool_]:
    same = [
        reading.scenes.count[i] == truth.count[i] and scene_facts(reading.scenes, i) == scene_facts(truth, i) for i in range(len(truth))
    ]
    return reading.clean & np.array(same)


def accepted(images: Images, placement: str) -> float:
    return float(read(picture(images), placement).clean.mean())


def jittered(truth: Scenes, radius: float) -> Images:
    """The mean of renderings with every centre moved by up to `radius` pixels in x and in y."""
    rng = np.random.default_rng(0)
    total = np.zeros((len(truth), 32, 32, 3))
    for _ in range(16):
        dx, dy = rng.uniform(-radius, radius, (2, *truth.x.shape))
        total += render(attrs.evolve(truth, x=truth.x + dx, y=truth.y + dy))
    return total / 16


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(("split", "size", "number"), [("test", 32, 2048), ("novel", 32, 1024), ("test", 48, 128), ("test", 64, 128)])
def test_real_renderings_are_read_right(placement: str, split: str, size: int, number: int) -> None:
    samples = draw(placement, split, number, size=size)
    reading = read(samples.images, placement)
    assert right(samples.truth, reading).mean() >= 0.999
    present = samples.truth.present
    assert np.abs(reading.scenes.x - samples.truth.x)[present].max() < 0.1 * size / 32
    assert np.abs(reading.scenes.y - samples.truth.y)[present].max() < 0.1 * size / 32


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("sigma", [0.8, 1.0, 1.5, 3.0])
def test_blurred_scenes_are_refused(placement: str, sigma: float) -> None:
    assert accepted(gaussian_filter(draw(placement).images.astype(float), (0, sigma, sigma, 0)), placement) == 0


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("keep", [0.8, 0.75, 0.5])
def test_faded_scenes_are_refused(placement: str, keep: float) -> None:
    assert accepted(BACKGROUND + keep * (draw(placement).images - BACKGROUND), placement) == 0


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(("share", "most"), [(0.2, 0.02), (0.35, 0.01), (0.5, 0.01)])
def test_blended_scenes_are_refused(placement: str, share: float, most: float) -> None:
    """Up to the few whose objects coincide in place and nearly in colour and form, which leaves a scene nearly clean."""
    first, second = draw(placement).images, draw(placement, "validation").images
    assert accepted((1 - share) * first + share * second, placement) <= most


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [0.08, 0.15])
def test_speckled_scenes_are_refused(placement: str, channels: int, sigma: float) -> None:
    noise = np.random.default_rng(0).normal(size=(ITEMS, 32, 32, channels))
    assert accepted(draw(placement).images + 255 * sigma * noise, placement) == 0


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_half_erased_objects_are_refused(placement: str) -> None:
    samples = draw(placement)
    images = samples.images.copy()
    for i in range(ITEMS):
        x, y = int(np.rint(samples.truth.x[i, 0])), int(np.rint(samples.truth.y[i, 0]))
        images[i, max(0, y - 8) : y + 8, x : x + 8] = BACKGROUND
    assert accepted(images, placement) == 0


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(("width", "strength"), [(1, 0.5), (2, 0.35), (4, 0.2)])
def test_stains_beside_the_objects_are_refused(placement: str, width: int, strength: float) -> None:
    samples = draw(placement)
    images = samples.images.astype(float)
    grid = np.stack(np.meshgrid(np.arange(3.0, 30), np.arange(3.0, 30)), axis=-1).reshape(-1, 2)
    for i in range(ITEMS):
        centres = np.stack([samples.truth.x[i], samples.truth.y[i]], axis=-1)[: samples.truth.count[i]]
        x, y = grid[np.abs(grid[:, None] - centres).max(axis=-1).min(axis=-1).argmax()].astype(int) - width // 2
        images[i, y : y + width, x : x + width] += 255 * strength * np.array([0.2, 1.0, 0.2])
    assert accepted(images, placement) == 0


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_what_is_no_scene_at_all_is_refused(placement: str) -> None:
    rng = np.random.default_rng(0)
    empty = np.broadcast_to(BACKGROUND, (4, 32, 32, 3))
    noise = rng.uniform(0, 255, (4, 32, 32, 3))
    stripes = np.where(np.arange(32)[:, None] % 8 < 4, PALE, BACKGROUND) * np.ones((4, 32, 32, 1))
    ramps = np.linspace(0, 255, 32)[:, None] * np.ones((4, 32, 32, 3))
    with np.errstate(invalid="raise", divide="raise"):
        for images in (empty, empty * 0, empty * 0 + 255, noise, stripes, ramps):
            assert accepted(images, placement) == 0


PALE = np.array([242.0, 242.0, 242.0])


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_slight_faults_are_forgiven(placement: str) -> None:
    samples = draw(placement)
    truth, images = samples.truth, samples.images.astype(float)
    rng = np.random.default_rng(0)
    shade = rng.normal(size=(ITEMS, 1, 1, 3))
    shade *= 0.05 * 255 / np.sqrt((shade**2).mean(axis=-1, keepdims=True))
    objects = np.clip(np.abs(images - BACKGROUND).max(axis=-1, keepdims=True) / 150, 0, 1)
    for faulty in (jittered(truth, 0.5), images + 255 * 0.02 * rng.normal(size=images.shape), images + shade * objects):
        assert right(truth, read(picture(faulty), placement)).mean() >= 0.99


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_single_objects_count_where_the_whole_fails(placement: str) -> None:
    samples = draw(placement)
    truth = samples.truth
    whole, single = drawn_right(truth, samples.images)
    assert whole.all()
    assert np.array_equal(single, truth.count)
    images = samples.images.copy()
    for i in range(ITEMS):
        x, y = int(np.rint(truth.x[i, 0])), int(np.rint(truth.y[i, 0]))
        images[i, max(0, y - 8) : y + 8, x : x + 8] = BACKGROUND
    if placement == "cells":  # with free placement that may erase part of another object too
        whole, single = drawn_right(truth, images)
        assert not whole.any()
        assert np.array_equal(single, truth.count - 1)


def test_an_object_drawn_twice_is_not_right() -> None:
    """Two equal objects in one cell say the same fact, and still are one too many."""
    truth = draw("cells", number=1).truth
    one = attrs.evolve(
        truth,
        count=np.array([2]),
        colour=np.array([[0, 0, -1]]),
        shape=np.array([[0, 0, -1]]),
        size=np.array([[1, 1, -1]]),
        cell=np.array([[0, 0, -1]]),
        x=np.array([[4.2, 11.8, np.nan]]),
        y=np.array([[4.2, 11.8, np.nan]]),
    )
    wanted = attrs.evolve(one, count=np.array([1]))
    reading = read(render(one), "cells")
    assert reading.clean[0]
    assert reading.scenes.count[0] == 2
    assert not drawn_right(wanted, render(one))[0][0]
