"""ibllm's own checks of a dataset and of a metric, and what is special about these."""

from __future__ import annotations

import ibllm
import numpy as np
import pytest
from ibllm.plugin import Context
from ibllm_testing import DatasetSuite, MetricSuite

from ibllm_clocks.config import ClocksConfig
from ibllm_clocks.dataset import ClockDataset
from ibllm_clocks.faces import TURN, faces, words
from ibllm_clocks.metric import read


class TestClocks(DatasetSuite):
    component = "clocks"


class TestEveryMinute(DatasetSuite):
    component = "clocks"
    options = {"step": 1, "size": 16, "held_out": 0.5}


class TestClockTime(MetricSuite):
    component = "clock_time"
    dataset = ("clocks", {"size": 32})


@pytest.mark.parametrize(
    ("time", "said"),
    [
        (0, "twelve o'clock"),
        (7 * 60, "seven o'clock"),
        (7 * 60 + 1, "one past seven"),
        (7 * 60 + 12, "twelve past seven"),
        (7 * 60 + 15, "quarter past seven"),
        (7 * 60 + 20, "twenty past seven"),
        (7 * 60 + 30, "half past seven"),
        (7 * 60 + 35, "twenty five to eight"),
        (7 * 60 + 41, "nineteen to eight"),
        (11 * 60 + 45, "quarter to twelve"),
    ],
)
def test_times_are_said_as_one_says_them(time, said):
    assert words(time) == said


def test_no_two_times_sound_or_look_alike():
    assert len({words(time) for time in range(TURN)}) == TURN
    assert len(np.unique(faces(32, 5).reshape(TURN // 5, -1), axis=0)) == TURN // 5


def test_faces_are_read_as_the_time_they_show():
    made = faces(32, 5)
    noisy = np.clip(made.astype(int) + np.random.default_rng(0).integers(-40, 40, made.shape), 0, 255).astype(np.uint8)
    assert read(noisy, 5).tolist() == list(range(0, TURN, 5))


def test_hands_point_where_they_should():
    """At three o'clock the red hand is right of the middle and the blue one above it; rows grow downwards."""
    face = faces(64, 5)[3 * 12].astype(int)
    assert face[32, 42, 0] > 180 > face[32, 42, 2]
    assert face[16, 32, 2] > 150 > face[16, 32, 0]


def test_every_time_is_in_one_split_and_a_seed_holds_others_out():
    one, other = (ClockDataset(ClocksConfig(), Context(seed=seed)) for seed in (0, 1))
    said = {split: set(one.corpus(split)) for split in one.sizes()}
    assert sum(map(len, said.values())) == len(set.union(*said.values())) == 144
    assert {split: len(texts) for split, texts in said.items()} == {"train": 116, "validation": 14, "test": 14}
    assert said["test"] != set(other.corpus("test"))


def test_the_recipe_has_no_mistakes():
    assert ibllm.recipe("ibllm-clocks:clocks").resolved.data.distribution == "ibllm-clocks"
