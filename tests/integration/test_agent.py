"""An agent of stable-baselines3 learns to attack; needs ``pip install stable-baselines3``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ibllm_attack.agents import Agent, play_out, random_policy
from ibllm_attack.environments import AdversarialSamples
from ibllm_attack.games import Rules

from tests.attack.test_environment import Brightness
from tests.integration.needs import needs
from tests.use.conftest import run, trained  # noqa: F401

RULES = {"epsilon": 8 / 255, "budget": 4, "stride": 0.3, "price": 0.1}


@pytest.fixture(autouse=True)
def there() -> None:
    needs("stable-baselines3", importlib.util.find_spec("stable_baselines3") is not None)


def test_ppo_learns_what_fools_a_model(tmp_path: Path):
    from ibllm_attack.baselines import train

    target = Brightness()
    agent = train(target=target, steps=8192, num_envs=16, hidden=(16,), **RULES)
    rows, rules = np.arange(len(target)), Rules(**RULES)
    learned = play_out(target, rules, agent, rows)
    by_chance = play_out(target, rules, random_policy(target.actions, 0), rows)
    assert learned.fooled.all()
    assert learned.queries.mean() < by_chance.queries.mean()
    agent.save(tmp_path / "agent.safetensors")
    np.testing.assert_array_equal(Agent.load(tmp_path / "agent.safetensors")(target.images), agent(target.images))


def test_an_agent_does_what_its_policy_does():
    from ibllm_attack.baselines import Many
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecEnv

    environments = Many(AdversarialSamples(target=Brightness(), num_envs=3, **RULES))
    assert isinstance(environments, VecEnv)
    learned = PPO("MlpPolicy", environments, n_steps=4, batch_size=12, policy_kwargs={"net_arch": [8]}, device="cpu", seed=0)
    agent = Agent.of_ppo(learned, (8, 8, 3), {"of": "image"})
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.float32)
    wanted, _ = learned.predict(images.reshape(5, -1) / 255, deterministic=True)
    np.testing.assert_allclose(agent(images), wanted, atol=1e-5)


def test_an_agent_is_trained_on_a_run(run: Path):  # noqa: F811
    from ibllm_attack.baselines import train

    agent = train(run, steps=64, num_envs=8, items=4, reference="reading", budget=2)
    assert agent.shape == (32, 32, 3)
    assert agent.about["budget"] == 2
