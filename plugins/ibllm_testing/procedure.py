"""What procedures are asked, with a game that is played on a few numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ibllm.iterations import Rehearsal
from ibllm_core.interfaces.optimisation import Iteration, Procedure
from ibllm_core.model.players import CRITIC, MODEL, Player, Term, pack_optimizer, unpack_optimizer

from .checks import expect, same
from .suite import Suite


class Game:
    """Players whose losses are functions of numbers x, the model's, and y, the critic's.

    Args:
        losses: player → what it minimises, () of x (n) and y (n).
        x, y: where they start.
        optimizer: made of a player's parameters.
        every: iterations from one turn of the critic to the next.
    """

    def __init__(
        self,
        losses: Mapping[str, Callable[[Tensor, Tensor], Tensor]],
        x: Tensor,
        y: Tensor,
        optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
        every: int = 1,
    ) -> None:
        self.losses, self.step = losses, 0
        self.weights = {CRITIC: nn.Parameter(y.clone()), MODEL: nn.Parameter(x.clone())}
        self.players = [
            Player(
                name,
                {"w": self.weights[name]},
                [Term(name, 1.0, 1.0, 1)],
                optimizer([self.weights[name]]),
                1.0,
                every if name == CRITIC else 1,
            )
            for name in (CRITIC, MODEL)
            if name in losses
        ]

    def play(self, procedure: Procedure, iterations: int) -> None:
        for _ in range(iterations):
            procedure.iterate(_GameIteration(self))
            self.step += 1

    def values(self) -> dict[str, Tensor]:
        """Player → its numbers."""
        return {name: self.weights[name].detach().clone() for name in self.losses}


class _GameIteration(Iteration):
    def __init__(self, game: Game) -> None:
        super().__init__(game.players, game.step)
        self._game = game

    def gradients(self, player: Player) -> None:
        game = self._game
        x, y = (game.weights[name] if name == player.name else game.weights[name].detach() for name in (MODEL, CRITIC))
        (game.weights[player.name].grad,) = torch.autograd.grad(game.losses[player.name](x, y), game.weights[player.name])

    def forget(self) -> None:
        pass

    def move(self, player: Player) -> None:
        player.optimizer.step()


class ProcedureSuite(Suite):
    """How an iteration is played.

    Attributes:
        iterations: as many as it takes for all that it does to have happened.
    """

    kind = "procedure"
    iterations: int = 12

    def game(self, device: torch.device, players: Sequence[str] = (CRITIC, MODEL), every: int = 1) -> Game:
        """min_x max_y of a saddle with a little curvature, followed by SGD with momentum, which has a state."""
        losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            CRITIC: lambda x, y: (-(x * y) + 0.1 * y.square()).sum(),
            MODEL: lambda x, y: (x * y + 0.1 * x.square()).sum(),
        }
        x, y = torch.tensor([1.0, -0.5, 0.3], device=device), torch.tensor([-0.7, 0.2, 0.9], device=device)
        return Game({name: losses[name] for name in players}, x, y, lambda p: torch.optim.SGD(p, 0.1, momentum=0.5), every)

    def test_it_is_a_procedure(self) -> None:
        """Its factory gives a Procedure whose `period` is a number of iterations."""
        made = self.make()
        expect(isinstance(made, Procedure), f"{self._name}: its factory gives a {type(made).__name__}, no Procedure")
        expect(isinstance(made.period, int) and made.period >= 1, f"{self._name}: its period is {made.period!r}: expected a whole number")

    def test_it_trains_one_player_and_two(self, device: torch.device) -> None:
        """With a critic and without one, every player's parameters move and stay finite."""
        for players in ((MODEL,), (CRITIC, MODEL)):
            game = self.game(device, players)
            before = game.values()
            game.play(self.make(), self.iterations)
            for name, value in game.values().items():
                moved = bool(torch.isfinite(value).all()) and not torch.equal(value, before[name])
                expect(
                    moved, f"{self._name}: in {self.iterations} iterations with {' and '.join(players)} the {name} went to {value.tolist()}"
                )

    def test_players_are_counted_and_due(self, device: torch.device) -> None:
        """A player that is due has played at least once more after an iteration, one that is not has not."""
        game, made = self.game(device, every=2), self.make()
        for step in range(self.iterations):
            before = {player.name: player.steps for player in game.players}
            game.play(made, 1)
            for player in game.players:
                more, due = player.steps - before[player.name], player.plays(step)
                told = f"{self._name}: in iteration {step} the {player.name}, which is {'' if due else 'not '}due, is counted {more} times"
                expect(more >= 1 if due else more == 0, f"{told}; say iteration.update for each step of a player that is due")

    def test_it_is_deterministic(self, device: torch.device) -> None:
        """Two games from the same start end alike, whatever torch's generator holds."""
        found = []
        for seed in range(2):
            torch.manual_seed(seed)
            game = self.game(device)
            game.play(self.make(), self.iterations)
            found.append(game.values())
        same(found[1], found[0], f"{self._name}: equal games must end alike", 0, 0)

    def test_it_goes_on_where_it_stopped(self, device: torch.device) -> None:
        """After any number of iterations `state` has all that the next ones depend on, beside weights, optimizers and counts."""
        whole, procedure = self.game(device), self.make()
        for done in range(self.iterations):
            state = {name: tensor.clone() for name, tensor in procedure.state().items()}
            again, fresh = self._copy(whole, device), self.make()
            fresh.restore(state)
            again.play(fresh, self.iterations - done)
            ahead, following = self._copy(whole, device), copy.deepcopy(procedure)
            ahead.play(following, self.iterations - done)
            same(again.values(), ahead.values(), f"{self._name}: stopped after {done} iterations it goes on otherwise", 0, 0)
            whole.play(procedure, 1)

    def test_it_can_be_rehearsed(self, device: torch.device) -> None:
        """Played where nothing is computed and no optimizer steps, it leaves the weights alone and takes the turns that it takes otherwise."""
        game, other = self.game(device, every=2), self.game(device, every=2)
        before, rehearsed, played = game.values(), self.make(), self.make()
        for step in range(self.iterations):
            rehearsal = Rehearsal(game.players, step)
            rehearsed.iterate(rehearsal)
            other.play(played, 1)
            expect(bool(rehearsal.turns), f"{self._name}: nobody takes a gradient in iteration {step}")
            steps, counted = ({player.name: player.steps for player in of.players} for of in (game, other))
            expect(steps == counted, f"{self._name}: after iteration {step} a rehearsal counts {steps}, the game itself {counted}")
        same(game.values(), before, f"{self._name}: a rehearsal must leave the weights as they are", 0, 0)

    def _copy(self, game: Game, device: torch.device) -> Game:
        """A game that stands where another one does."""
        made = self.game(device)
        made.step = game.step
        for mine, its in zip(made.players, game.players, strict=True):
            tensors, values = pack_optimizer(its.optimizer)
            made.weights[mine.name].data.copy_(game.weights[its.name].detach())
            unpack_optimizer(mine.optimizer, {name: tensor.clone() for name, tensor in tensors.items()}, values)
            mine.steps = its.steps
        return made
