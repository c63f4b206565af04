"""``ibllm/AdversarialSample-v0``: an attack on a trained model as an environment of Gymnasium (extra ``ibllm[gym]``); importing this registers it.

    import gymnasium, ibllm_attack.environments
    environment = gymnasium.make("ibllm/AdversarialSample-v0", run="runs/joint")
    many = gymnasium.make_vec("ibllm/AdversarialSample-v0", num_envs=32, run="runs/joint")

Shapes: n environments, h w c image, k numbers of an action.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ibllm_core.errors import UserError

from .games import Games, Played, Rules
from .targets import EmbeddingTarget, ImageTarget, Rows, Target

try:
    import gymnasium
    from gymnasium import spaces
    from gymnasium.utils import seeding
    from gymnasium.vector import AutoresetMode, VectorEnv
    from gymnasium.vector.utils import batch_space
except ImportError as error:
    raise UserError(f"{error}: the environment is Gymnasium's; pip install 'ibllm[gym]'") from None

NAME = "ibllm/AdversarialSample-v0"


def target_of(
    run: str | Path,
    *,
    of: str = "image",
    split: str = "train",
    items: int = 256,
    patch: int = 8,
    groups: int = 4,
    reference: str = "caption",
    device: str | None = None,
) -> Target:
    """What is attacked of a trained model.

    Args:
        run: a run directory or a model folder.
        of: ``image``, so that it is read as something else, or ``embedding``, that of a caption, so that the drawing is read as something else.
        split, items: the first so many items of it.
        patch: of an image, height and width of the squares that an action moves.
        groups: of an embedding, how many of its parts an action moves, each by a number.
        reference: what damage is measured against: the data's ``caption``, or the model's own ``reading`` of the clean item.
        device: where the model goes.

    Raises:
        UserError: as `ImageTarget` and `ibllm.open`, or `of` is something else.
    """
    import ibllm

    if of not in ("image", "embedding"):
        raise UserError(f"of = {of!r}: expected image or embedding")
    opened = ibllm.open(run, device=device)
    if of == "image":
        return ImageTarget(opened, split, items, patch, reference)
    return EmbeddingTarget(opened, split, items, groups, reference)


class _Spaces:
    """What both environments have: the games, and the spaces of what is seen and done."""

    def _play_on(self, run: str | Path | None, target: Target | None, count: int, rules: dict[str, Any], settings: dict[str, Any]) -> None:
        if (run is None) == (target is None):
            raise UserError("expected either run, a trained model, or target, what is attacked")
        self.target = target if target is not None else target_of(run or "", **settings)
        self.games = Games(self.target, Rules(**rules), count)
        self.target.bound(np.zeros(1, np.int64), self.games.rules.epsilon)  # refuses an epsilon that is none
        low, high, shape = self.target.low, self.target.high, self.target.shape
        pixels = (low, high) == (0.0, 255.0) and len(shape) == 3
        self.seen: spaces.Box = (
            spaces.Box(0, 255, shape, np.uint8) if pixels else spaces.Box(np.float32(low), np.float32(high), shape, np.float32)
        )
        self.done = spaces.Box(-1.0, 1.0, (self.target.actions,), np.float32)

    def _items(self) -> npt.NDArray[Any]:
        """(n ...) what is seen now."""
        return self.games.items().astype(self.seen.dtype)

    def _told(self, played: Played | None) -> dict[str, npt.NDArray[Any]]:
        """What is told beside, (n) each: the loss in nats, the visibility, the item, whether the model is fooled."""
        games = self.games
        fooled = np.zeros(len(games.rows), np.bool_) if played is None else played.fooled
        return {"loss": games.loss.copy(), "visibility": games.visibility.copy(), "item": games.rows.copy(), "fooled": fooled}


class AdversarialSample(gymnasium.Env[Any, Any], _Spaces):
    """One item at a time, drawn by the seed; its perturbation grows step by step.

    Observation: the item as it is now, an image (h w c) uint8 or a caption's embeddings (t e). Action: (k) in [−1, 1], how each patch of the perturbation
    moves, bounded by epsilon. Reward: the rise in the model's loss less the price of the rise in visibility (`Games`). An episode ends when the model is
    fooled (terminated) or the budget is spent (truncated).

    Args:
        run: a trained model; or `target`, what is attacked, of one's own.
        render_mode: ``rgb_array``, a picture of the item.
        rules: those of `Rules`.
        settings: those of `target_of`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(
        self,
        run: str | Path | None = None,
        *,
        target: Target | None = None,
        epsilon: float = 8 / 255,
        stride: float = 0.5,
        budget: int = 32,
        price: float = 0.5,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        self._play_on(run, target, 1, {"epsilon": epsilon, "stride": stride, "budget": budget, "price": price}, settings)
        self.observation_space, self.action_space, self.render_mode = self.seen, self.done, render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """A new item; ``options = {"item": 3}`` asks for one."""
        super().reset(seed=seed)
        row = (options or {}).get("item")
        row = int(self.np_random.integers(len(self.target))) if row is None else int(row)
        if not 0 <= row < len(self.target):
            raise UserError(f"item = {row}: expected one of the {len(self.target)} items, from 0 on")
        self.games.begin(np.array([0]), np.array([row]))
        return self._items()[0], {name: values[0] for name, values in self._told(None).items()}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        played = self.games.play(np.asarray(action)[None])
        told = {name: values[0] for name, values in self._told(played).items()}
        return self._items()[0], float(played.reward[0]), bool(played.fooled[0]), bool(played.spent[0]), told

    def render(self) -> Any:
        """(h w 3) the image as it is now, or what is drawn of the embeddings."""
        return self.target.picture(self.games.items()[0], int(self.games.rows[0])) if self.render_mode == "rgb_array" else None


class AdversarialSamples(VectorEnv[Any, Any, Any], _Spaces):
    """`num_envs` of `AdversarialSample`, the model asked in one forward pass for all of them; seeded as Gymnasium's `SyncVectorEnv` seeds.

    An episode that ends is followed by the next one in the same step; what was seen last is in ``infos["final_obs"]``.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 4, "autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self,
        run: str | Path | None = None,
        *,
        num_envs: int = 1,
        target: Target | None = None,
        epsilon: float = 8 / 255,
        stride: float = 0.5,
        budget: int = 32,
        price: float = 0.5,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        if num_envs < 1:
            raise UserError(f"num_envs = {num_envs}: expected at least 1")
        self._play_on(run, target, num_envs, {"epsilon": epsilon, "stride": stride, "budget": budget, "price": price}, settings)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.single_observation_space, self.single_action_space = self.seen, self.done
        self.observation_space, self.action_space = batch_space(self.seen, num_envs), batch_space(self.done, num_envs)
        self._chance = [seeding.np_random()[0] for _ in range(num_envs)]

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """New items. `seed` is that of the first environment, the next have the numbers after it; or a list, one for each."""
        if seed is not None:
            seeds = [seed + k for k in range(self.num_envs)] if isinstance(seed, int) else list(seed)
            self._chance = [old if one is None else seeding.np_random(one)[0] for one, old in zip(seeds, self._chance, strict=True)]
        self._begin(np.arange(self.num_envs))
        return self._items(), self._infos(self._told(None))

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        played = self.games.play(np.asarray(actions))
        told, ended = self._told(played), np.flatnonzero(played.fooled | played.spent)
        infos: dict[str, Any] = {}
        if len(ended):
            last, over = self._items(), np.isin(np.arange(self.num_envs), ended)
            infos["final_obs"] = np.array([last[k] if over[k] else None for k in range(self.num_envs)] + [None], dtype=object)[:-1]
            infos["final_info"] = {name: np.where(over, values, np.zeros_like(values)) for name, values in told.items()}
            infos["final_info"] |= {f"_{name}": over.copy() for name in told}
            infos |= {"_final_obs": over, "_final_info": over.copy()}
            self._begin(ended)
            now = self._told(None)
            told = {name: np.where(over, now[name], values) for name, values in told.items()}
        return self._items(), played.reward, played.fooled.copy(), played.spent.copy(), infos | self._infos(told)

    def _begin(self, which: Rows) -> None:
        self.games.begin(which, np.array([int(self._chance[k].integers(len(self.target))) for k in which.tolist()], np.int64))

    def _infos(self, told: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
        """Gymnasium's way: beside every array a mask of the environments that it speaks of."""
        return told | {f"_{name}": np.ones(self.num_envs, np.bool_) for name in told}

    def render(self) -> Any:
        """A picture (h w 3) of each."""
        if self.render_mode != "rgb_array":
            return None
        rows = self.games.rows.tolist()
        return tuple(self.target.picture(item, row) for item, row in zip(self.games.items(), rows, strict=True))


if NAME not in gymnasium.registry:
    gymnasium.register(
        NAME, entry_point=f"{__name__}:{AdversarialSample.__name__}", vector_entry_point=f"{__name__}:{AdversarialSamples.__name__}"
    )
