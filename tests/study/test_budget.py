"""A knob is turned until a recipe costs what it may, or it is said why that cannot be."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from ibllm_study.budget import Budget, meet
from ibllm_study.plan import make_plan
from ibllm_study.study_file import read_study

from ibllm.contracts import check
from ibllm_core.errors import UserError
from ibllm_core.recipe import Recipe, RecipeErrors, load

from .conftest import TINY, Write

Cost = Callable[[int], float]


#: One stage is enough.
FEW = ("stages.image.steps=0", "stages.joint.steps=0")


def turning(knob: str, *sets: str) -> Callable[[int], Recipe]:
    return lambda value: load(TINY, (*FEW, *sets, f"{knob}={value}"))


@pytest.fixture
def costing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, float]]:
    """``costing(f, budget, refused)``: holds a budget where a value costs f(value) and some are refused."""

    def find(cost: Cost, budget: Budget, refused: Callable[[int], bool] = lambda value: False) -> tuple[int, float]:
        def build(value: int) -> Any:
            if refused(value):
                raise UserError(f"width = {value}: expected another one")
            return value

        monkeypatch.setattr(Budget, "cost", lambda self, value: float(cost(value)))
        return meet(budget, build)

    return find


def test_parameters_are_held_by_a_width() -> None:
    budget = Budget(parameters=60_000, knob="model.width")
    value, cost = meet(budget, turning(budget.knob))
    assert value % 8 == 0
    assert cost == check(turning(budget.knob)(value)).parameters
    assert abs(cost - 60_000) <= 3000
    for other in (value - 8, value + 8):
        assert abs(check(turning(budget.knob)(other)).parameters - 60_000) >= abs(cost - 60_000)


def test_training_flops_are_held_by_steps_to_the_step() -> None:
    budget = Budget(flops=1e10, knob="stages.text.steps")
    value, cost = meet(budget, turning(budget.knob))
    recipe = turning(budget.knob)(value)
    report = check(recipe)
    assert cost == report.training_flops(recipe)
    (text,) = report.stages
    assert text.flops is not None
    assert abs(cost - 1e10) <= text.flops * 8 / 2


def test_a_scaled_study_has_a_scaled_budget_of_flops(write_study: Write) -> None:
    few = '[set]\n"stages.image.steps" = 0\n"stages.joint.steps" = 0\n[variants]\n"a" = { "model.image_decoder.depth" = 2 }\n'
    study = write_study('budget = { flops = 4e9, knob = "stages.text.steps" }\n' + few, seeds=1)
    for _, cost in make_plan(read_study(study, scale=0.25)).knobs.values():
        assert cost == pytest.approx(1e9, rel=0.05)
    table = read_study(write_study('budget = { parameters = 6e4, knob = "model.width" }\n' + few), scale=0.25).table
    assert table.held == table.budget


def test_widths_that_parts_refuse_are_left_out() -> None:
    heads = ("model.text_encoder.heads=6", "model.text_decoder.heads=6", "model.image_decoder.heads=6")
    budget = Budget(parameters=60_000, knob="model.width", tolerance=0.4)
    value, _ = meet(budget, turning(budget.knob, *heads))
    assert value % 24 == 0


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(parameters=60_000, knob="stages.text.steps"), r"stages.text.steps.*depend on.* at 1 and at"),
        (Budget(flops=1e6, knob="stages.text.steps"), r"expected a value that gives 1 M training FLOPs.*the nearest is .* at 1$"),
        (Budget(parameters=1e9, knob="model.width", high=16), r"1 G parameters, or at most 5% off; the nearest is .* parameters at 16$"),
    ],
)
def test_what_cannot_be_held_says_how_near_it_comes(budget: Budget, said: str) -> None:
    with pytest.raises(UserError, match=said):
        meet(budget, turning(budget.knob))


def test_a_key_that_does_not_exist_is_the_recipes_mistake() -> None:
    budget = Budget(parameters=60_000, knob="model.wdth")
    with pytest.raises(RecipeErrors, match=r"model\.wdth: unknown key"):
        meet(budget, turning(budget.knob))


@pytest.mark.parametrize("power", [0.5, 1, 2, 3, -1])
@pytest.mark.parametrize("modulus", [1, 3])
def test_the_value_found_is_the_nearest_there_is(costing: Callable[..., tuple[int, float]], power: float, modulus: int) -> None:
    draw = random.Random(f"{power} {modulus}")
    for _ in range(40):
        step, fixed = draw.choice([1, 8]), draw.randrange(10_000)
        values = range(step * modulus, 4000 * step, step * modulus)

        def cost(value: int, power: float = power, fixed: int = fixed) -> float:
            return fixed + 1e6 * float(value) ** power

        target = cost(draw.choice(values[: len(values) // 2])) * draw.uniform(0.99, 1.01)
        budget = Budget(flops=target, knob="a.b", multiple=step, tolerance=0.9)
        _, found = costing(cost, budget, lambda value: value % modulus != 0)
        assert abs(found - target) == pytest.approx(min(abs(cost(value) - target) for value in values), rel=1e-9, abs=1e-6)


def test_bounds_and_multiples_are_kept(costing: Callable[..., tuple[int, float]]) -> None:
    assert costing(lambda value: value, Budget(flops=100, knob="a.b", multiple=7)) == (98, 98.0)
    assert costing(lambda value: value, Budget(flops=100, knob="a.b", high=96)) == (96, 96.0)
    assert costing(lambda value: value, Budget(flops=100, knob="a.b", low=97)) == (104, 104.0)
    assert costing(lambda value: value, Budget(flops=100, knob="a.steps", low=60, high=60, tolerance=0.5)) == (60, 60.0)
    with pytest.raises(UserError, match=r"low = 20, high = 40: expected a multiple of 50 between them"):
        costing(lambda value: value, Budget(flops=30, knob="a.b", multiple=50, low=20, high=40))


def test_a_cost_that_turns_round_is_refused(costing: Callable[..., tuple[int, float]]) -> None:
    with pytest.raises(UserError, match=r"rises or falls all along"):
        costing(lambda value: (value - 100) ** 2 + 5, Budget(flops=50, knob="a.steps"))


def test_a_refusal_of_every_value_is_handed_on(costing: Callable[..., tuple[int, float]]) -> None:
    with pytest.raises(UserError, match=r"^width = 8: expected another one$"):
        costing(lambda value: value, Budget(flops=50, knob="a.b"), lambda value: True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "one of parameters and flops"),
        ({"parameters": 1e6, "flops": 1e9}, "one of parameters and flops"),
        ({"parameters": 1e6, "low": 9, "high": 8}, "low = 9: expected at most high = 8"),
        ({"parameters": -1.0}, "parameters = -1.0: expected > 0"),
        ({"flops": 1e9, "tolerance": 1.5}, "tolerance = 1.5: expected"),
    ],
)
def test_what_makes_no_budget_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Budget(knob="model.width", **options)
