"""What a stage's validations have decided so far: best weights, early stop, learning rate, λ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

from ..recipe.schema import Validation

#: Names that checkpoints of ibllm 0.1 have for fields of `ValidationState`.
_FORMER = {"waited": "bad_validations", "waited_rate": "plateau_length", "rate": "lr_factor"}


@attrs.define
class ValidationState:
    """Plain numbers, so that a checkpoint holds them.

    Attributes:
        best: the best value of the watched figure so far.
        best_step: the last step it was reached at; −1 before the first validation.
        bad_validations: validations since it was first reached.
        plateau_length: the same, or since the learning rate was last lowered.
        lr_factor: factor on the learning rate.
        balance: factor on the composite loss's λ.
    """

    best: float | None = None
    best_step: int = -1
    bad_validations: int = 0
    plateau_length: int = 0
    lr_factor: float = 1.0
    balance: float = 1.0

    def update(self, plan: Validation, figures: Mapping[str, float], figure: str, step: int) -> bool:
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
            self.bad_validations, self.plateau_length = 0, 0
        else:
            self.bad_validations += 1
            self.plateau_length += 1
        if plan.plateau is not None and self.plateau_length >= plan.plateau.patience:
            self.lr_factor *= plan.plateau.factor
            self.plateau_length = 0
        if plan.balance is not None:
            lag = figures[plan.balance.text] - figures[plan.balance.image]
            limit = plan.balance.limit
            self.balance = min(limit, max(1 / limit, self.balance * math.exp(plan.balance.rate * lag)))
        return self.best_step == step

    def stops(self, plan: Validation) -> bool:
        """True where the stage's patience is at an end."""
        return plan.patience > 0 and self.bad_validations >= plan.patience

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> ValidationState:
        """From the fields' values by name, or by the names that they had in ibllm 0.1."""
        return cls(**{_FORMER.get(name, name): value for name, value in state.items()})
