"""What validations decide."""

from __future__ import annotations

import math

import attrs
import pytest

from ibllm_core.model.stage import ValidationState
from ibllm_core.recipe.schema import Balance, Plateau, Validation


def feed(plan: Validation, values: list[float], figure: str = "f") -> ValidationState:
    state = ValidationState()
    for step, value in enumerate(values):
        state.update(plan, {figure: value}, figure, step)
    return state


@pytest.mark.parametrize(("figure", "mode", "best"), [("f", "auto", 1), ("f", "min", 3), ("", "auto", 3), ("f", "max", 1)])
def test_the_best_step(figure: str, mode: str, best: int) -> None:
    state = feed(Validation(figure=figure, mode=mode), [0.5, 0.9, 0.7, 0.1], figure or "loss")
    assert state.best_step == best


def test_a_figure_that_is_no_number_is_never_the_best() -> None:
    assert feed(Validation(figure="f"), [math.nan, 0.1, math.inf]).best_step == 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_of_equal_figures_the_later_weights_are_kept(value: float) -> None:
    state = ValidationState()
    plan = Validation(figure="f", patience=2)
    assert [state.update(plan, {"f": value}, "f", step) for step in range(3)] == [True, True, True]
    assert state.best_step == 2
    assert state.stops(plan), "an equal figure is no improvement"


def test_stopping_after_so_many_validations_without_improvement() -> None:
    plan = Validation(figure="f", patience=2)
    assert not feed(plan, [0.5, 0.4]).stops(plan)
    assert feed(plan, [0.5, 0.4, 0.5]).stops(plan)
    assert not feed(Validation(figure="f"), [0.5] * 9).stops(Validation(figure="f"))


def test_a_plateau_lowers_the_rate_and_waits_again() -> None:
    plan = Validation(figure="f", plateau=Plateau(factor=0.5, patience=2))
    assert feed(plan, [0.5, 0.4, 0.4]).lr_factor == 0.5
    assert feed(plan, [0.5, 0.4, 0.4, 0.4]).lr_factor == 0.5
    assert feed(plan, [0.5, 0.4, 0.4, 0.4, 0.4]).lr_factor == 0.25
    assert feed(plan, [0.1, 0.2, 0.3, 0.4]).lr_factor == 1


def test_lambda_follows_the_module_that_lags() -> None:
    plan = Validation(figure="f", balance=Balance(text="t", image="i", rate=0.5, limit=2.0))
    state = ValidationState()
    state.update(plan, {"f": 0, "t": 0.9, "i": 0.5}, "f", 0)
    assert state.balance == pytest.approx(math.exp(0.2))
    for step in range(20):
        state.update(plan, {"f": 0, "t": 1.0, "i": 0.0}, "f", step)
    assert state.balance == 2.0
    for step in range(40):
        state.update(plan, {"f": 0, "t": 0.0, "i": 1.0}, "f", step)
    assert state.balance == 0.5


def test_its_state_comes_back() -> None:
    state = feed(Validation(figure="f"), [0.1, 0.3])
    assert ValidationState.restored(attrs.asdict(state)) == state


def test_the_state_of_a_checkpoint_of_ibllm_0_1_is_read() -> None:
    former = {"best": 0.3, "best_step": 4, "waited": 2, "waited_rate": 1, "rate": 0.5, "balance": 1.5}
    expected = ValidationState(best=0.3, best_step=4, bad_validations=2, plateau_length=1, lr_factor=0.5, balance=1.5)
    assert ValidationState.restored(former) == expected
