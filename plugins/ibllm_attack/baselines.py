"""Agents trained by PPO of stable-baselines3, which the user installs (``pip install stable-baselines3``).

Shapes: n environments, k numbers of an action.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from ibllm_core.errors import UserError

from .agents import Agent
from .environments import AdversarialSamples
from .targets import Target

try:
    from gymnasium import spaces
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise UserError(f"{error}: agents are trained by stable-baselines3; pip install stable-baselines3") from None


class Many(VecEnv):
    """`AdversarialSamples` as stable-baselines3 wants many environments: what is seen is a vector, of an image its numbers divided by 255."""

    def __init__(self, environments: AdversarialSamples) -> None:
        self.environments = environments
        seen = environments.single_observation_space
        size = int(np.prod(seen.shape or ()))
        self._scale = 255.0 if seen.dtype == np.uint8 else 1.0
        low, high = (0.0, 1.0) if seen.dtype == np.uint8 else (-np.inf, np.inf)
        super().__init__(environments.num_envs, spaces.Box(low, high, (size,), np.float32), environments.single_action_space)

    def _vectors(self, seen: Any) -> Any:
        return np.asarray(seen, np.float32).reshape(len(seen), -1) / self._scale

    def reset(self) -> Any:
        seeds = [seed for seed in self._seeds if seed is not None]
        return self._vectors(self.environments.reset(seed=seeds if len(seeds) == self.num_envs else None)[0])

    def step_async(self, actions: Any) -> None:
        self._actions = actions

    def step_wait(self) -> Any:
        seen, rewards, fooled, spent, infos = self.environments.step(self._actions)
        ended, told = fooled | spent, [dict[str, Any]() for _ in range(self.num_envs)]
        for k in np.flatnonzero(ended).tolist():
            last = self._vectors(infos["final_obs"][k][None])[0]
            # The budget is the attack's own end: nothing is to be hoped for after it, so its value is not bootstrapped.
            told[k] = {"terminal_observation": last, "TimeLimit.truncated": False, "fooled": bool(fooled[k])}
        return self._vectors(seen), rewards.astype(np.float32), ended, told

    def close(self) -> None:
        self.environments.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.environments, attr_name)] * len(self._get_indices(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self.environments, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise UserError(f"{method_name}: these environments are one, and have no methods each")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * len(self._get_indices(indices))


def train(
    run: str | Path | None = None,
    *,
    steps: int,
    num_envs: int = 64,
    hidden: tuple[int, ...] = (64,),
    seed: int = 0,
    target: Target | None = None,
    ppo: dict[str, Any] | None = None,
    **options: Any,
) -> Agent:
    """Trains an agent (Schulman et al. 2017, "Proximal Policy Optimization Algorithms").

    Args:
        run: a trained model; or `target`.
        steps: steps of environments altogether, each a question to the model.
        hidden: widths of the layers of the policy and of the value.
        seed: of items and of all that PPO draws.
        ppo: options of stable-baselines3's PPO, in the place of those here.
        options: of the environment, see `ibllm_attack.environments.target_of` and `ibllm_attack.games.Rules`.
    """
    environments = AdversarialSamples(run, num_envs=num_envs, target=target, **options)
    many = Many(environments)
    budget = environments.games.rules.budget
    each = max(budget, -(-512 // num_envs))
    how: dict[str, Any] = {
        "n_steps": each,
        "batch_size": max(1, each * num_envs // 4),
        "n_epochs": 4,
        "gamma": 0.99,
        "learning_rate": 1e-3,
        "ent_coef": 0.0,
    }
    policy = {"net_arch": {"pi": list(hidden), "vf": list(hidden)}, "log_std_init": -0.5}
    learned = PPO("MlpPolicy", many, policy_kwargs=policy, seed=seed, device="cpu", **how | (ppo or {}))
    learned.learn(steps)
    about = attrs.asdict(environments.games.rules) | {
        name: value for name, value in options.items() if isinstance(value, str | int | float)
    }
    return Agent.of_ppo(learned, environments.single_observation_space.shape or (), about)


__all__ = ["Many", "train"]
