"""What a stage's validation steers: best weights, early stop, learning rate, λ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

from ..recipe.schema import Validation


@attrs.define
class Knobs:
    """The state of one stage's steering; plain numbers, so that a checkpoint holds it.

    Attributes:
        best: the best value of the watched figure so far.
        best_step: the last step it was reached at; −1 before the first validation.
        waited: validations since it was first reached.
        waited_rate: the same, or since the rate was last lowered.
        rate: factor on the learning rate.
        balance: factor on the composite loss's λ.
    """

    best: float | None = None
    best_step: int = -1
    waited: int = 0
    waited_rate: int = 0
    rate: float = 1.0
    balance: float = 1.0

    def watch(self, plan: Validation, figures: Mapping[str, float], figure: str, step: int) -> bool:
        """Takes in one validation. True where it is the best so far, or equals it.

        Of equal figures the later weights are kept, for a figure that is 0 (or 1) throughout must not throw training away;
        only a better one counts against `patience`.
        """
        value = figures[figure]
        less = plan.mode == "min" or (plan.mode == "auto" and not plan.figure)
        sign = -1.0 if less else 1.0
        better = math.isfinite(value) and (self.best is None or sign * value > sign * self.best)
        if better or value == self.best:
            self.best, self.best_step = value, step
        if better:
            self.waited, self.waited_rate = 0, 0
        else:
            self.waited += 1
            self.waited_rate += 1
        if plan.plateau is not None and self.waited_rate >= plan.plateau.patience:
            self.rate *= plan.plateau.factor
            self.waited_rate = 0
        if plan.balance is not None:
            lag = figures[plan.balance.text] - figures[plan.balance.image]
            limit = plan.balance.limit
            self.balance = min(limit, max(1 / limit, self.balance * math.exp(plan.balance.rate * lag)))
        return self.best_step == step

    def stop(self, plan: Validation) -> bool:
        """True where the stage has waited long enough."""
        return plan.patience > 0 and self.waited >= plan.patience

    def state(self) -> dict[str, Any]:
        return attrs.asdict(self)
