"""Procedures against closed forms: the bilinear game min_x max_y xy, and one step down a quadratic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from ibllm_procedures.config import AlternateConfig, ExtragradientConfig, LookaheadConfig
from ibllm_procedures.procedure import Alternate, Extragradient, Lookahead
from ibllm_testing.procedure import Game
from torch import Tensor, nn

from ibllm_core.errors import UserError
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.optimisation import Procedure

RATE = 0.2
#: One gradient step of x against the y that there is: x ← x − ηy; of y: y ← y + ηx.
STEP_X, STEP_Y = np.array([[1, -RATE], [0, 1]]), np.array([[1, 0], [RATE, 1]])
#: The critic moves first.
TURNS = STEP_X @ STEP_Y
START = np.array([1.0, 0.5])

Matrix = npt.NDArray[np.float64]
Losses = dict[str, Callable[[Tensor, Tensor], Tensor]]
BILINEAR: Losses = {"critic": lambda x, y: -(x * y).sum(), "model": lambda x, y: (x * y).sum()}


def sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, RATE)


def alternate() -> Procedure:
    return Alternate(AlternateConfig(), Context())


def extragradient() -> Procedure:
    return Extragradient(ExtragradientConfig(), Context())


def lookahead(every: int = 5, alpha: float = 0.5) -> Procedure:
    return Lookahead(LookaheadConfig(every=every, alpha=alpha), Context())


def game(losses: Losses, start: Matrix = START) -> Game:
    x, y = torch.tensor(start[:1]), torch.tensor(start[1:])
    return Game(losses, x, y, sgd)


def played(procedure: Procedure, iterations: int) -> Matrix:
    """(x, y) of the bilinear game."""
    made = game(BILINEAR)
    made.play(procedure, iterations)
    values = made.values()
    return np.array([values["model"].item(), values["critic"].item()])


def power(matrix: Matrix, times: int) -> Matrix:
    found: Matrix = np.linalg.matrix_power(matrix, times)
    return found


def test_players_that_take_turns_go_in_circles() -> None:
    np.testing.assert_allclose(played(alternate(), 7), power(TURNS, 7) @ START)
    assert np.abs(np.linalg.eigvals(TURNS)) == pytest.approx([1, 1])
    assert np.linalg.norm(played(alternate(), 500)) > 0.5


@pytest.mark.parametrize("iterations", [1, 2, 30])
def test_extragradient_on_the_bilinear_game(iterations: int) -> None:
    """z ← z − ηA(z − ηAz), whose norm shrinks by √((1 − η²)² + η²) at each iteration."""
    a = np.array([[0, 1], [-1, 0]])
    matrix = np.eye(2) - RATE * a @ (np.eye(2) - RATE * a)
    found = played(extragradient(), iterations)
    np.testing.assert_allclose(found, power(matrix, iterations) @ START)
    factor = ((1 - RATE**2) ** 2 + RATE**2) ** 0.5
    assert np.linalg.norm(found) == pytest.approx(factor**iterations * np.linalg.norm(START))


def test_extragradient_converges_where_turns_do_not() -> None:
    assert np.linalg.norm(played(extragradient(), 500)) < 1e-3


@pytest.mark.parametrize(("every", "alpha"), [(1, 0.5), (5, 0.5), (3, 1.0), (4, 0.2)])
def test_lookahead_on_the_bilinear_game(every: int, alpha: float) -> None:
    """After k turns z ← ((1 − α)·1 + α·M^k) z, M one turn of each player."""
    back = (1 - alpha) * np.eye(2) + alpha * power(TURNS, every)
    np.testing.assert_allclose(played(lookahead(every, alpha), 2 * every), power(back, 2) @ START)
    np.testing.assert_allclose(played(lookahead(every, alpha), 2 * every + every - 1), power(TURNS, every - 1) @ power(back, 2) @ START)


def test_lookahead_converges_where_turns_do_not() -> None:
    assert np.linalg.norm(played(lookahead(), 500)) < 1e-3


def test_one_player_down_a_quadratic() -> None:
    """½·a·x²: one iteration of extragradient, and k of lookahead, as the formulas have it."""
    a, x = 3.0, START[0]
    alone: Losses = {"model": lambda x, y: (a * x.square() / 2).sum()}
    made = game(alone)
    made.play(extragradient(), 1)
    assert made.values()["model"].item() == pytest.approx(x - RATE * a * (x - RATE * a * x))
    made = game(alone)
    made.play(lookahead(4, 0.3), 4)
    assert made.values()["model"].item() == pytest.approx(x * (0.7 + 0.3 * (1 - RATE * a) ** 4))


def test_extragradient_with_adam_takes_both_gradients_into_its_averages() -> None:
    """ExtraAdam (Gidel et al. 2019, algorithm 4), by hand."""
    a, lr, b1, b2, eps = 3.0, 0.1, 0.5, 0.9, 1e-8
    made = Game(
        {"model": lambda x, y: (a * x.square() / 2).sum()},
        torch.tensor([1.0]).double(),
        torch.zeros(1),
        lambda p: torch.optim.Adam(p, lr, (b1, b2), eps),
    )
    made.play(extragradient(), 3)
    w, m, v, t = 1.0, 0.0, 0.0, 0
    for _ in range(3):
        held = w
        for _ in range(2):
            g, t = a * w, t + 1
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            w = held - lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)) ** 0.5 + eps)
    assert made.values()["model"].item() == pytest.approx(w)


@pytest.mark.parametrize("procedure", [extragradient(), lookahead()])
def test_an_optimizer_with_evaluation_weights_is_refused(procedure: Procedure) -> None:
    class Elsewhere(torch.optim.SGD):
        def eval(self) -> None:
            pass

        def train(self) -> None:
            pass

    made = Game(BILINEAR, torch.ones(1), torch.ones(1), lambda p: Elsewhere(p, RATE))
    with pytest.raises(UserError, match="expected another optimizer"):
        made.play(procedure, 1)
