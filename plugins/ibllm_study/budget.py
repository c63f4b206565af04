"""Equal budgets: a knob is turned until a recipe costs what it may. Torch-free until a cost is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import attrs

from ibllm.units import readable
from ibllm_core.errors import UserError
from ibllm_core.host.options import Config, option
from ibllm_core.recipe.schema import Recipe

__all__ = ["Budget", "meet", "readable"]

#: Values that are tried in a row where parts refuse one (a width that is no multiple of the heads).
_TRIES = 16
#: Different values that all have to cost the same before a knob counts as one without effect.
_SAME = 4


@attrs.frozen(kw_only=True)
class Budget(Config):
    """``budget = { parameters = 1.5e6, knob = "model.width" }``: what every arm may cost, and the key that is turned to get there."""

    parameters: float | None = option(None, help="parameters of all parts together", gt=0)
    flops: float | None = option(None, help="FLOPs of the whole training, forward and backward", gt=0)
    knob: str = option(help='the key that is turned, a whole number: "model.width", "stages.joint.steps"')
    multiple: int | None = option(None, help="it moves in multiples of this; left out: 1 for steps, 8 for others", ge=1)
    tolerance: float = option(0.05, help="how far off the cost may be, as a fraction", gt=0, lt=1)
    low: int | None = option(None, help="smallest value", ge=1)
    high: int | None = option(None, help="largest value", ge=1)

    def __attrs_post_init__(self) -> None:
        if (self.parameters is None) == (self.flops is None):
            raise ValueError("expected one of parameters and flops")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low = {self.low}: expected at most high = {self.high}")

    @property
    def target(self) -> float:
        return float(self.parameters or self.flops or 0)

    @property
    def step(self) -> int:
        return self.multiple or (1 if self.knob.rpartition(".")[2] == "steps" else 8)

    def written(self, cost: float) -> str:
        """A cost in words."""
        return f"{readable(cost)} {'parameters' if self.flops is None else 'training FLOPs'}"

    def cost(self, recipe: Recipe) -> float:
        """What a recipe costs. Raises `UserError` where it cannot be built or counted."""
        from .checking import walked

        report = walked(recipe)
        cost = report.parameters if self.flops is None else report.training_flops(recipe)
        if cost is None:
            raise UserError("its training FLOPs cannot be counted: torch's meta device lacks an operation of its backward pass")
        return float(cost)


def meet(budget: Budget, build: Callable[[int], Recipe]) -> tuple[int, float]:
    """The value of the knob whose cost is nearest to the budget's, and that cost.

    The cost has to rise or fall all along with the knob. Values that the recipe or its parts refuse are left out.

    Args:
        build: value → the resolved recipe with the knob set.

    Raises:
        UserError: no value comes near enough, the knob does not matter, or every value is refused (then the first refusal).
    """
    search = _Search(budget, build)
    bracket = search.approach()
    if bracket is not None:
        search.close_in(*bracket)
    search.check_monotone()
    value, cost = search.nearest()
    if abs(cost - budget.target) > budget.tolerance * budget.target:
        wanted = f"{budget.written(budget.target)}, or at most {budget.tolerance:.0%} off"
        raise UserError(f"knob = {budget.knob!r}: expected a value that gives {wanted}; the nearest is {budget.written(cost)} at {value}")
    return value, cost


class _Search:
    """Values that were tried, and what they cost."""

    def __init__(self, budget: Budget, build: Callable[[int], Recipe]) -> None:
        self._budget, self._build = budget, build
        self._costs: dict[int, float | None] = {}
        self._refusal: UserError | None = None

    def _excess(self, value: int) -> float | None:
        """Cost − target; None where the value is refused."""
        if value not in self._costs:
            try:
                self._costs[value] = self._budget.cost(self._build(value))
            except UserError as error:
                self._costs[value], self._refusal = None, self._refusal or error
        cost = self._costs[value]
        return None if cost is None else cost - self._budget.target

    def _first(self, values: Iterable[int]) -> tuple[int, float] | None:
        """The first value that is not refused, with its excess."""
        for value, _ in zip(values, range(_TRIES), strict=False):
            excess = self._excess(value)
            if excess is not None:
                return value, excess
        return None

    def approach(self) -> tuple[tuple[int, float], tuple[int, float]] | None:
        """From the smallest value upwards in growing steps as long as the cost comes nearer: two values with the target between them, if any."""
        step, high = self._budget.step, self._budget.high
        top = high if high is not None else 2**31
        lowest = -(-(self._budget.low or 1) // step) * step
        before = None
        here = self._first(range(lowest, top + 1, step))
        if here is None:
            raise self._refusal or UserError(f"low = {self._budget.low}, high = {high}: expected a multiple of {step} between them")
        while here[1] != 0:
            # At least twice as far, at most sixteen times: costs grow linearly (steps) or quadratically (widths).
            aim = (
                float("inf")
                if before is None or before[1] == here[1]
                else here[0] - here[1] * (here[0] - before[0]) / (here[1] - before[1])
            )
            goal = 2 * here[0] if before is None else min(max(2 * here[0], aim), 16 * here[0])
            goal = min(int(goal) // step * step, top // step * step)
            there = self._first(range(goal, top + 1, step)) or self._first(range(goal - step, here[0], -step))
            if there is None or there[0] <= here[0]:
                return None
            if there[1] * here[1] <= 0:
                return here, there
            costs = list(self._known().values())
            unchanged = len(set(costs)) == 1 and len(costs) < _SAME
            if abs(there[1]) >= abs(here[1]) and not unchanged:
                return None
            before, here = here, there
        return None

    def close_in(self, one: tuple[int, float], other: tuple[int, float]) -> None:
        """Until no value is left between two that have the target between them: regula falsi, every third time bisection."""
        step, count = self._budget.step, 0
        while one[1] != 0 and other[1] != 0:
            count += 1
            share = 0.5 if count % 3 == 0 else one[1] / (one[1] - other[1])
            aim = one[0] + share * (other[0] - one[0])
            found = self._first(_outwards(aim, min(one[0], other[0]), max(one[0], other[0]), step))
            if found is None:
                return
            one, other = (found, other) if found[1] * one[1] > 0 else (one, found)

    def _known(self) -> dict[int, float]:
        """Value → cost, by value."""
        return {value: cost for value, cost in sorted(self._costs.items()) if cost is not None}

    def nearest(self) -> tuple[int, float]:
        return min(self._known().items(), key=lambda item: abs(item[1] - self._budget.target))

    def check_monotone(self) -> None:
        """Raises `UserError` where the knob does not matter, or turns the cost both ways."""
        known, knob = self._known(), self._budget.knob
        (first, cost), last = next(iter(known.items())), next(reversed(known))
        if len(known) > 1 and len(set(known.values())) == 1:
            what = "parameters" if self._budget.flops is None else "training FLOPs"
            raise UserError(
                f"knob = {knob!r}: expected a key that the {what} depend on; they are {self._budget.written(cost)} at {first} and at {last}"
            )
        signs = {later > earlier for earlier, later in pairwise(known.values()) if later != earlier}
        if len(signs) > 1:
            costs = ", ".join(f"{self._budget.written(cost)} at {value}" for value, cost in known.items())
            raise UserError(f"knob = {knob!r}: expected a key with which the cost rises or falls all along; it is {costs}")


def _outwards(aim: float, low: int, high: int, step: int) -> Iterator[int]:
    """The multiples of `step` between `low` and `high`, which are two, the nearest to `aim` first."""
    below = min(max(int(aim) // step * step, low), high - step)
    above = below + step
    while below > low or above < high:
        if below > low and (above >= high or aim - below <= above - aim):
            yield below
            below -= step
        else:
            yield above
            above += step
