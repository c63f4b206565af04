"""Worlds of things in places: whatever crosses a window's edge is whole, and nothing shows where windows meet."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from ibllm_scene.choosing import fitting, ring
from ibllm_scene.script import parse
from ibllm_scene.world import Scene, composer_of, draw, plan, readable
from ibllm_shapes.render import BACKGROUND, render

from ibllm_core.errors import Notice, UserError
from tests.scene.conftest import Oracle, scenes_of

FAIR = """title: A fair
columns: 8
0, 0: a large red circle
1, 1: a small blue square
2.5, 0: a large green triangle
3.25, 1: a large yellow ring
7.5, 1: a large white cross
"""


def wanted(scene: Scene) -> np.ndarray[Any, Any]:
    """The world as the dataset would render it."""
    world = np.empty(scene.pixels.shape, dtype=np.uint8)
    world[:] = BACKGROUND
    for placed in scene.plan.things:
        cell = render(scenes_of([f"a {' '.join(placed.thing)} at the top left"]))[0, :16, :16]
        box = placed.box
        world[box.top : box.top + 16, (box.left + np.arange(16)) % scene.plan.width] = cell
    return world


def test_a_world_is_what_its_things_are_wherever_they_lie(oracle: Oracle) -> None:
    """One crosses an edge of every regular window, one lies a quarter of a cell off, one goes around the world's own edge."""
    scene = draw(oracle, FAIR)
    assert scene.pixels.shape == (32, 128, 3) and scene.title == "A fair"
    np.testing.assert_allclose(scene.pixels.astype(int), wanted(scene), atol=1)
    assert all(region.agrees and region.shown for region in scene.regions)
    assert {line for region in scene.regions for line in region.lines} == {3, 4, 5, 6, 7}


def test_windows_are_told_only_of_what_lies_in_their_cells(oracle: Oracle) -> None:
    for window in draw(oracle, FAIR).plan.windows:
        for k in window.told:
            left, top = {0: (0, 0), 1: (16, 16), 2: (40, 0), 3: (52, 16), 4: (120, 16)}[k]
            assert (left - window.left) % 128 in (0, 16) and top - window.top in (0, 16)


def test_a_taller_world_has_windows_below_each_other(oracle: Oracle) -> None:
    scene = draw(oracle, "rows: 4\ncolumns: 6\n0, 0: a large red circle\n3, 2.5: a small green cross\n1, 3: a large blue ring")
    assert scene.pixels.shape == (64, 96, 3)
    np.testing.assert_allclose(scene.pixels.astype(int), wanted(scene), atol=1)


def test_a_sequence_has_a_region_for_every_caption() -> None:
    captions = [
        "a large red circle at the top left, a small blue square at the top right and a large green ring at the bottom left",
        "a small white cross at the top left, a large cyan diamond at the top right and a small red ring at the bottom right",
        "a large orange triangle at the bottom left",
    ]
    scene = draw(Oracle(), "\n".join(captions))
    assert [region.asked for region in scene.regions] == captions and [region.lines for region in scene.regions] == [(1,), (2,), (3,)]
    assert scene.pixels.shape == (32, 96, 3)
    np.testing.assert_allclose(scene.pixels.astype(int), wanted(scene), atol=1)


def test_an_overlap_that_changes_nothing_is_told() -> None:
    with pytest.warns(Notice, match=r"overlap = 0\.25 changes nothing"):
        draw(Oracle(), FAIR, overlap=0.25)


def test_no_window_is_told_more_than_a_caption_has() -> None:
    """A world that is full: four things lie in the cells of each window, and captions have three."""
    script = "\n".join(f"{column}, {row}: a large red circle" for column in range(6) for row in range(2))
    scene = draw(Oracle(), script)
    assert max(len(window.told) for window in scene.plan.windows) == 3
    np.testing.assert_allclose(scene.pixels.astype(int), wanted(scene), atol=1)


def test_what_is_empty_is_drawn_by_windows_that_are_told_what_is_not_used() -> None:
    scene = draw(Oracle(), "columns: 12\n0, 0: a large red circle")
    assert any(window.spare for window in scene.plan.windows) and len(scene.regions) == 1
    np.testing.assert_allclose(scene.pixels.astype(int), wanted(scene), atol=1)


def test_windows_drawn_together_begin_with_one_world_of_noise() -> None:
    model = Oracle(together=True)
    scene = draw(model, FAIR, seed=4)
    noise, places = model.drawing.noise.numpy(), scene.plan.pixels()
    values: dict[int, Any] = {}
    for window, where in zip(noise, places, strict=True):
        for value, place in zip(window.reshape(3, -1).T, where.ravel().tolist(), strict=True):
            assert np.array_equal(values.setdefault(place, value), value)
    assert len(values) == 32 * 128 and abs(np.std(list(values.values())) - 1) < 0.05


def test_the_batch_changes_nothing() -> None:
    model = Oracle()
    whole = draw(model, FAIR).pixels
    model.drawing.batches.clear()
    np.testing.assert_array_equal(draw(model, FAIR, batch=5).pixels, whole)
    assert max(model.drawing.batches) == 5


def test_what_is_read_otherwise_is_marked() -> None:
    model = Oracle()
    model.drawing.spoiled["red"] = "green"
    first, *others = draw(model, FAIR).regions
    assert first.agrees is False and first.shown is False and first.read == first.asked.replace("red", "green")
    assert all(region.agrees for region in others)


def test_a_model_that_cannot_read_draws_all_the_same() -> None:
    scene = draw(Oracle(reads=False), FAIR)
    assert all(region.read is None and region.agrees is None and region.shown for region in scene.regions)


def test_captions_as_they_are_have_a_window_each() -> None:
    """Where they overlap they are blended; the middle of each is its own drawing."""
    captions = ["a large red circle at the top left", "a large blue ring at the bottom right", "a small green cross at the top right"]
    scene = draw(Oracle(), "\n".join(captions), captions=True, overlap=0.25)
    assert [window.left for window in scene.plan.windows] == [0, 24, 48] and scene.plan.width == 72
    for window, image in zip(scene.plan.windows, render(scenes_of(captions)), strict=True):
        np.testing.assert_array_equal(scene.pixels[:, window.left + 8 : window.left + 24], image[:, 8:24])
    across = scene.plan.weights[:, 0]
    np.testing.assert_allclose(across[0, -8:] + across[1, :8], across[0, 16], err_msg="overlapping weights sum to one")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("0, 0: a large red circle\n1, 0: a purple cow\n9, 0: a small red ring\ncolumn", ":4: line 1 has a place"),
        (
            "0, 0: a large red circle\n1, 0: a purple cow",
            ":2: 'a purple cow' is nothing that these data have; expected for example 'a large red circle'",
        ),
        ("0, 0: a large pink circle", ":1: 'a large pink circle' is nothing"),
        ("columns: 4\n4, 0: a large red circle", ":2: column 4: expected at least 0 and less than 4"),
        ("0, 1.5: a large red circle\nrows: 2", "before the first caption"),
        ("rows: 2\n0, 1.5: a large red circle", ":2: row 1.5: expected at least 0 and at most 1"),
        ("0, 0.5: a large red circle\n4, 0: a small red ring\n5, 1: a small red ring", ":1: row 0.5 is in no window's cell"),
        ("0, 0: a large red circle\n0.5, 0: a small red ring", ":2: nearer than a cell to line 1"),
        ("columns: 5\n0, 0: a large red circle\n4.5, 0: a small red ring", ":3: nearer than a cell to line 2"),
        ("columns: 1\n0, 0: a large red circle", "columns = 1: expected at least 2"),
        ("columns: 1000000000\n0, 0: a large red circle", "columns = 1e+09: expected at most 8192"),
        ("columns: 8000\nrows: 8000\n0, 0: a large red circle", "a world of 8000 columns and 8000 rows; expected at most 4096 canvases"),
        ("columns: 8000\n0, 0: a large red circle", "8000 windows; a world of at most 4096"),
        ("99999999999, 0: a large red circle", "expected at most 8192"),
        ("a large red circle", ":1: 'a large red circle' is no caption of these data, which are like 'a large red circle at the top left'"),
        ("columns: 4\na large red circle at the top left", "columns and rows are for lines with places"),
    ],
)
def test_a_script_that_cannot_be_drawn_is_told_by_its_lines(script: str, told: str) -> None:
    model = Oracle()
    with pytest.raises(UserError) as caught:
        draw(model, script)
    assert told in str(caught.value)
    assert not model.drawing.batches, "nothing is drawn"


def test_words_that_the_model_never_saw_are_told_with_their_lines() -> None:
    captions = "a large red circle at the top left\na large red wombat at the top left"
    with pytest.raises(UserError):
        draw(Oracle(), captions)
    script, remarks = readable(Oracle(), parse(captions, "zoo.txt"))
    assert [entry.text for entry in script.entries] == captions.splitlines()
    assert remarks == ["zoo.txt:2: 1 word was never seen in training, so nothing can be known of it: wombat"]


def test_capitals_of_a_script_are_read_in_lower_case_and_told() -> None:
    model = Oracle()
    with pytest.warns(Notice, match=r"^script:2: 1 word is known in lower case only, and read so: Red$"):
        scene = draw(model, "columns: 4\n0, 0: a large Red circle")
    assert [region.asked for region in scene.regions] == ["a large red circle at the top left"]


def test_all_mistakes_of_a_script_are_told_at_once_and_no_more_than_twenty() -> None:
    long = "a wombat " * 40
    script = f"columns: many\n0, 0: a wombat\n-1, 0: a large red circle\n1, 0.5: a small blue ring\n3, 9: {long}\n5, 0:\nno place"
    with pytest.raises(UserError) as caught:
        draw(Oracle(), script)
    told = str(caught.value).splitlines()
    assert [int(line.split(":")[1]) for line in told] == [1, 2, 3, 5, 6, 7]
    assert all(len(line) < 200 for line in told) and f"{long[:79]}…" in told[3]
    with pytest.raises(UserError) as caught:
        draw(Oracle(), "\n".join(f"a wombat {number}" for number in range(33)))
    told = str(caught.value).splitlines()
    assert len(told) == 21 and told[0].startswith("script:1: ") and told[20] == "script: and 13 more mistakes"


def test_windows_of_latents_lie_on_whole_latents() -> None:
    script = parse("columns: 8\n0, 0: a large red circle\n2.3, 0: a small blue ring")
    planned = plan(script, (32, 32), composer_of(Oracle()), unit=4)
    assert planned.rounded == 1 and all(window.left % 4 == 0 for window in planned.windows)
    assert planned.things[1].box.left == 36


def test_the_drawings_that_fit_best_are_the_cheapest_way_around() -> None:
    rng = np.random.default_rng(0)
    for k, n in ((1, 3), (2, 3), (5, 4)):
        costs = rng.uniform(size=(k, n, n))

        def price(way: Sequence[int], costs: Any = costs, k: int = k) -> float:
            return float(sum(costs[p, way[p], way[(p + 1) % k]] for p in range(k)))

        assert price(ring(costs)) == pytest.approx(min(price(way) for way in itertools.product(range(n), repeat=k)))


def test_of_several_drawings_those_are_taken_that_agree_where_they_overlap() -> None:
    planned = plan(parse("first\nsecond\nthird"), (8, 8), None, overlap=0.25)
    drawings = torch.randn(4, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = [2, 0, 3]
    for k in range(3):
        drawings[wanted[(k + 1) % 3], (k + 1) % 3, ..., :2] = drawings[wanted[k], k, ..., 6:]
    torch.testing.assert_close(fitting(planned, drawings), torch.stack([drawings[n, k] for k, n in enumerate(wanted)]))


@pytest.mark.parametrize("together", [False, True])
def test_there_is_no_choice_among_drawings_where_things_have_places(together: bool) -> None:
    with pytest.raises(UserError, match="best_of"):
        draw(Oracle(together), FAIR, best_of=4)
