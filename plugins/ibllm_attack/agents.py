"""Agents: what chooses the next step of an attack from the item as it is; trained by PPO, kept as weights that nothing is unpickled from.

Shapes: n games, ... an item, k numbers of an action.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from ibllm_core.errors import UserError
from ibllm_core.runs.directory import replacing

from .games import Games, Rules
from .targets import Array, Rows, Target

#: Items (n ...) as they are now → actions (n k) in [−1, 1].
Policy = Callable[[Array], Array]
#: In the header of a file: what the agent is.
FORMAT = "ibllm_attack agent 1"


class Agent(nn.Module):
    """A multilayer perceptron (tanh) from an item's numbers to the mean of the action; images are divided by 255.

    Args:
        shape: of an item.
        actions: k.
        hidden: widths of the layers between.
        about: what it was trained for: the options of the target and of the rules.
    """

    def __init__(self, shape: tuple[int, ...], actions: int, hidden: tuple[int, ...], about: dict[str, Any]) -> None:
        super().__init__()
        self.shape, self.actions, self.hidden, self.about = shape, actions, hidden, about
        widths = (int(np.prod(shape)), *hidden)
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in itertools.pairwise(widths)])
        self.action = nn.Linear(widths[-1], actions)

    def forward(self, items: Tensor) -> Tensor:
        """items (n ...) → actions (n k) in [−1, 1]."""
        x = items.flatten(1) / (255.0 if self.about.get("of", "image") == "image" else 1.0)
        for layer in self.layers:
            x = layer(x).tanh()
        found: Tensor = self.action(x).clamp(-1, 1)
        return found

    @torch.no_grad()
    def __call__(self, items: Any) -> Any:
        """As `forward`, arrays for arrays."""
        if isinstance(items, Tensor):
            return super().__call__(items)
        return super().__call__(torch.from_numpy(np.ascontiguousarray(items, np.float32))).numpy()

    def save(self, path: Path) -> None:
        """Writes a safetensors file, its header saying what the agent is."""
        from safetensors.torch import save_file

        about = {"format": FORMAT, "shape": self.shape, "actions": self.actions, "hidden": self.hidden, "about": self.about}
        with replacing(path) as partial:
            save_file({name: value.contiguous() for name, value in self.state_dict().items()}, partial, {"agent": json.dumps(about)})

    @classmethod
    def load(cls, path: Path) -> Agent:
        """Raises `UserError` where there is no such file or it is no agent."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {}).get("agent", "{}"))
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError) as error:
            raise UserError(f"{path} cannot be read as an agent ({error}); expected what Agent.save wrote") from None
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise UserError(f"{path} is no agent: expected what Agent.save wrote")
        found = cls(tuple(about["shape"]), int(about["actions"]), tuple(about["hidden"]), dict(about["about"]))
        try:
            found.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(f"{path}: its weights do not fit what its header says ({error})") from None
        return found.eval()

    @classmethod
    def of_ppo(cls, learned: Any, shape: tuple[int, ...], about: dict[str, Any]) -> Agent:
        """The policy of stable-baselines3's PPO, an ``MlpPolicy`` with tanh that sees an item (...) as a vector."""
        policy: Any = learned.policy
        linear = [layer for layer in policy.mlp_extractor.policy_net if isinstance(layer, nn.Linear)]
        found = cls(shape, policy.action_net.out_features, tuple(layer.out_features for layer in linear), about)
        for own, other in zip((*found.layers, found.action), (*linear, policy.action_net), strict=True):
            own.load_state_dict(other.state_dict())
        return found.eval()


@attrs.frozen(eq=False)
class Outcome:
    """How attacks on some items (b) went: the items as they were left (b ...), which fooled the model, and after how many questions each ended."""

    items: Array
    fooled: Any
    queries: Any


def play_out(target: Target, rules: Rules, policy: Policy, rows: Rows) -> Outcome:
    """Plays an attack on each of some items to its end: the model is fooled, or the budget is spent."""
    games = Games(target, rules, len(rows))
    games.begin(np.arange(len(rows)), rows)
    fooled, queries = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.int64)
    for _ in range(rules.budget):
        if fooled.all():
            break
        kept = games.change.copy()
        played = games.play(policy(games.items()))
        games.change[fooled] = kept[fooled]
        queries += ~fooled
        fooled |= played.fooled
    return Outcome(games.items(), fooled, queries)


def random_policy(actions: int, seed: int) -> Policy:
    """Each number of an action anywhere in [−1, 1], by chance."""
    chance = np.random.default_rng(seed)
    return lambda items: chance.uniform(-1, 1, (len(items), actions)).astype(np.float32)
