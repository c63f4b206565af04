"""The environment: what Gymnasium asks of one, and that many at once are the same as one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from ibllm_attack.environments import NAME, AdversarialSample, AdversarialSamples
from ibllm_attack.games import Games, Rules
from ibllm_attack.targets import Judged

from ibllm_core.errors import UserError


class Brightness:
    """Images that fool a model once their mean has risen by 3 levels; the loss is that rise."""

    shape, low, high, actions, patch = (8, 8, 3), 0.0, 255.0, 4, 4

    def __init__(self, count: int = 5) -> None:
        self.asked: list[int] = []
        levels = np.arange(count)[:, None, None, None] * 20.0 + 100
        self.images = np.broadcast_to(levels, (count, *self.shape)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def clean(self, rows: Any) -> Any:
        return self.images[rows]

    def bound(self, rows: Any, epsilon: float) -> Any:
        return np.full(len(rows), np.floor(epsilon * 255 + 1e-6), np.float32)

    def spread(self, actions: Any) -> Any:
        patches = actions.reshape(-1, 2, 2, 1).repeat(self.patch, 1).repeat(self.patch, 2)
        return np.broadcast_to(patches, (*patches.shape[:3], 3)).astype(np.float32)

    def judge(self, x: Any, rows: Any) -> Judged:
        self.asked.append(len(rows))
        rise = (np.rint(x) - self.images[rows]).mean((1, 2, 3)).astype(np.float64)
        return Judged(rise, rise >= 3)

    def rounded(self, x: Any) -> Any:
        return np.rint(x)

    def picture(self, x: Any, row: int) -> Any:
        return x.astype(np.uint8)


def test_gymnasium_accepts_it():
    check_env(AdversarialSample(target=Brightness()), skip_render_check=True)


def test_it_is_made_by_its_name():
    made = gymnasium.make(NAME, target=Brightness(), budget=3)
    made.reset(seed=1)
    observation, *_ = made.step(made.action_space.sample())
    assert made.observation_space.contains(observation)


def test_rewards_sum_up_to_the_rise_less_the_price_of_what_is_seen():
    games = Games(Brightness(), Rules(epsilon=8 / 255, budget=4, price=0.25, stride=0.25), 1)
    games.begin(np.array([0]), np.array([2]))
    rewards = [games.play(np.full((1, 4), action)).reward[0] for action in (0.5, -0.2, 0.4)]
    rise = games.items().mean() - games.target.clean(games.rows).mean()
    assert sum(rewards) == pytest.approx(rise - 0.25 * games.visibility[0])
    assert games.visibility[0] == pytest.approx(np.sqrt(np.mean((games.items() - games.target.clean(games.rows)) ** 2)) / 8)


def test_no_number_changes_by_more_than_epsilon():
    games = Games(Brightness(), Rules(epsilon=2 / 255, budget=9, stride=1.0), 2)
    games.begin(np.arange(2), np.array([0, 4]))
    for _ in range(5):
        games.play(np.full((2, 4), 1.0) * np.array([[1.0], [-1.0]]))
    assert np.abs(games.items() - games.target.clean(games.rows)).max() == 2


def test_an_episode_ends_when_the_model_is_fooled_and_when_the_budget_is_spent():
    environment = AdversarialSample(target=Brightness(), stride=0.25, budget=3)
    environment.reset(seed=0)
    ends = [environment.step(np.full(4, 1.0))[2:4] for _ in range(2)]
    assert ends == [(False, False), (True, False)]
    environment.reset()
    assert [environment.step(np.zeros(4))[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]


def test_the_seed_decides_the_items():
    environment = AdversarialSample(target=Brightness())
    first = [environment.reset(seed=3)[1]["item"], *(environment.reset()[1]["item"] for _ in range(6))]
    again = [environment.reset(seed=3)[1]["item"], *(environment.reset()[1]["item"] for _ in range(6))]
    assert first == again
    assert len(set(first)) > 1
    assert environment.reset(options={"item": 4})[1]["item"] == 4
    with pytest.raises(UserError, match="expected one of the 5 items"):
        environment.reset(options={"item": 5})


def alike(found: Any, wanted: Any, where: str = "") -> None:
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key in wanted:
            alike(found[key], wanted[key], f"{where}/{key}")
    elif isinstance(wanted, np.ndarray) and wanted.dtype == object:
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=where)
    else:
        np.testing.assert_allclose(found, wanted, atol=1e-5, err_msg=where)


def test_many_at_once_are_the_same_as_one_by_one():
    how = {"stride": 0.25, "budget": 4}
    one = gymnasium.make_vec(
        NAME,
        num_envs=3,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        target=Brightness(),
        **how,
    )
    many = gymnasium.make_vec(NAME, num_envs=3, vectorization_mode="vector_entry_point", target=Brightness(), **how)
    assert many.observation_space == one.observation_space
    assert many.action_space == one.action_space
    alike(many.reset(seed=11)[0], one.reset(seed=11)[0])
    chance = np.random.default_rng(0)
    for _ in range(12):
        actions = chance.uniform(-0.6, 1, (3, 4)).astype(np.float32)
        for found, wanted in zip(many.step(actions), one.step(actions), strict=True):
            alike(found, wanted)


def test_a_step_of_many_is_one_question_to_the_model():
    target = Brightness()
    many = AdversarialSamples(target=target, num_envs=5)
    many.reset(seed=0)
    target.asked.clear()
    many.step(np.zeros((5, 4)))
    assert target.asked == [5]


@pytest.mark.parametrize("of", ["image", "embedding"])
def test_a_trained_model_is_attacked(run: Path, of: str):
    environment = AdversarialSample(run, of=of, items=4, reference="reading", budget=2, epsilon=0.5, render_mode="rgb_array")
    check_env(environment, skip_render_check=True)
    observation, _ = environment.reset(seed=0)
    assert environment.render().shape == (32, 32, 3)
    many = AdversarialSamples(run, num_envs=2, of=of, items=4, reference="reading", budget=2, epsilon=0.5)
    np.testing.assert_allclose(many.reset(seed=0)[0][0], observation, atol=1e-6)
    told = environment.step(environment.action_space.sample() * 0)[-1]
    assert told["visibility"] == 0
    assert not told["fooled"]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"of": "sound"}, "expected image or embedding"),
        ({"split": "elsewhere"}, "expected one of train"),
        ({"patch": 5}, "divisor of the image"),
        ({"reference": "truth"}, "expected one of caption, reading"),
        ({"items": 2, "reference": "caption"}, "attacks what the model itself reads"),
    ],
)
def test_what_cannot_be_attacked_is_refused(run: Path, how: dict[str, Any], told: str):
    with pytest.raises(UserError, match=told):
        AdversarialSample(run, **how)


@pytest.mark.parametrize(
    "how", [{"epsilon": 0}, {"budget": 0}, {"price": -1}, {"stride": 3}, {"num_envs": 0}, {"run": "runs/none", "target": None}]
)
def test_rules_that_are_none_are_refused(how: dict[str, Any]):
    make: Callable[..., Any] = AdversarialSamples if {"num_envs", "run"} & how.keys() else AdversarialSample
    with pytest.raises(ValueError, match=r"expected|there is no"):
        make(**{"target": Brightness()} | how)
