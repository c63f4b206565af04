"""Attacks played step by step on a batch of items, the model asked once a step for all of them.

Shapes: b games, ... an item, k numbers of an action.
"""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from .targets import Array, Bools, Rows, Target

Floats = npt.NDArray[np.float64]


@attrs.frozen(kw_only=True)
class Rules:
    """How an attack is played.

    Attributes:
        epsilon: the most that any number of an item may change, in the target's unit (for images a share of the range from black to white).
        stride: the share of epsilon that an action of 1 moves a number by.
        budget: steps, each a question to the model.
        price: what a perturbation that is everywhere as large as it may be costs, in the nats that the loss is measured in.

    Raises:
        ValueError: one is out of its range.
    """

    epsilon: float = 8 / 255
    stride: float = 0.5
    budget: int = 32
    price: float = 0.5

    def __attrs_post_init__(self) -> None:
        for name, value, fits in (
            ("epsilon", self.epsilon, self.epsilon > 0),
            ("stride", self.stride, 0 < self.stride <= 2),
            ("budget", self.budget, self.budget >= 1),
            ("price", self.price, self.price >= 0),
        ):
            if not fits:
                wanted = {"epsilon": "more than 0", "stride": "in (0, 2]", "budget": "at least 1", "price": "at least 0"}[name]
                raise ValueError(f"{name} = {value}: expected {wanted}")


@attrs.frozen(eq=False)
class Played:
    """What a step gave each of some games: reward, whether the model was fooled, whether the budget is spent; and the state after it."""

    reward: Floats
    fooled: Bools
    spent: Bools
    loss: Floats
    visibility: Floats


class Games:
    """`count` games, each about one item at a time.

    A step's reward is the rise in the model's loss since the step before, less the price of the rise in visibility, so that a game's rewards sum up to what
    the whole perturbation raised the loss by, less its price. Visibility is the root mean square of the perturbation as a share of epsilon, in [0, 1].
    """

    def __init__(self, target: Target, rules: Rules, count: int) -> None:
        self.target, self.rules = target, rules
        self.rows: Rows = np.zeros(count, np.int64)
        self.steps: Rows = np.zeros(count, np.int64)
        self.change: Array = np.zeros((count, *target.shape), np.float32)
        self.loss, self.visibility = np.zeros(count), np.zeros(count)
        self._losses: dict[int, float] = {}

    def begin(self, which: Rows, rows: Rows) -> None:
        """The games `which` (n) begin anew, each with an item."""
        self.rows[which], self.steps[which], self.change[which], self.visibility[which] = rows, 0, 0.0, 0.0
        new = np.array([row for row in dict.fromkeys(rows.tolist()) if row not in self._losses], np.int64)
        if len(new):
            self._losses |= zip(new.tolist(), self.target.judge(self.target.clean(new), new).loss.tolist(), strict=True)
        self.loss[which] = [self._losses[row] for row in rows.tolist()]

    def items(self) -> Array:
        """(b ...) the items as they are now."""
        target = self.target
        return target.rounded(np.clip(target.clean(self.rows) + self.change, target.low, target.high))

    def play(self, actions: Array) -> Played:
        """actions (b k) in [−1, 1] → a step of every game."""
        target, rules = self.target, self.rules
        most = target.bound(self.rows, rules.epsilon).reshape(-1, *[1] * len(target.shape))
        moved = self.change + rules.stride * most * target.spread(np.clip(actions, -1.0, 1.0).astype(np.float32))
        clean = target.clean(self.rows)
        self.change = np.clip(clean + np.clip(moved, -most, most), target.low, target.high) - clean
        judged = target.judge(clean + self.change, self.rows)
        done = target.rounded(clean + self.change) - clean
        axes = tuple(range(1, done.ndim))
        visibility = np.sqrt(np.mean((done / most).astype(np.float64) ** 2, axis=axes))
        reward = (judged.loss - self.loss) - rules.price * (visibility - self.visibility)
        self.loss, self.visibility = judged.loss, visibility
        self.steps += 1
        return Played(reward, judged.fooled, ~judged.fooled & (self.steps >= rules.budget), judged.loss, visibility)
