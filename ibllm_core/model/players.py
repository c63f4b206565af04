"""Who minimises what: the model, and the critic where there is one; their optimizers' state in tensors and plain values, so that nothing is unpickled;
and the moving average of weights, through all stages of a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from ..interfaces.loss import AdversarialLoss, CriticLoss, Loss
from ..interfaces.optimisation import EvaluationWeights
from ..recipe.schema import Recipe, Stage
from . import build
from .cycle import Cycle
from .model import Model
from .sharding import sharded_as

MODEL, CRITIC = "model", "critic"
#: Player, the critic first → the losses that have a side for it.
SIDES = {CRITIC: CriticLoss | AdversarialLoss, MODEL: Loss}


@attrs.define
class Term:
    """A loss in a player's sum: effective weight = the loss's own × the stage's factor; played on every n-th step, n times as strong."""

    name: str
    weight: float
    factor: float
    every: int

    @property
    def effective(self) -> float:
        return self.weight * self.factor

    def within(self, cycle: Cycle) -> float | Tensor:
        """The weight in a cycle's iteration, with `every`."""
        return cycle.at(lambda _: self.every * self.effective)


@attrs.define(eq=False)
class Player:
    """Parameters, the losses they follow, and their optimizer.

    Attributes:
        name: ``model`` or ``critic``.
        parameters: name → parameter.
        terms: what is summed.
        optimizer: of the parameters; its groups' rates are what factors multiply.
        scale: factor on these rates.
        every: plays on every n-th iteration.
        steps: how often it has played.
        rates: of each group of the optimizer.
    """

    name: str
    parameters: Mapping[str, nn.Parameter]
    terms: Sequence[Term]
    optimizer: torch.optim.Optimizer
    scale: float
    every: int
    steps: int = attrs.field(default=0, init=False)
    rates: list[float] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.rates = [float(group["lr"]) for group in self.optimizer.param_groups]

    def plays(self, step: int) -> bool:
        return step % self.every == 0

    def due(self) -> list[Term]:
        """What it minimises when it plays next."""
        return [term for term in self.terms if self.steps % term.every == 0]

    def loss(self, cycle: Cycle) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum (), and each term's value () without its weight."""
        cycle.begin_play()
        due, value = self.due(), cycle.value if self.name == MODEL else cycle.critic_value
        assert due, f"{self.name} has nothing to minimise"
        values = {term.name: value(term.name) for term in due}
        weighted = [term.within(cycle) * values[term.name] for term in due]
        return reduce(Tensor.add, weighted), {name: value.detach() for name, value in values.items()}

    def set_rate(self, factor: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * self.scale * factor)
            else:
                group["lr"] = rate * self.scale * factor

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Within, the parameters have the weights to be used; afterwards, bit for bit, those that they had."""
        if not isinstance(self.optimizer, EvaluationWeights):
            yield
            return
        held = [p.detach().clone() for p in self.parameters.values()]
        self.optimizer.eval()
        try:
            yield
        finally:
            self.optimizer.train()
            with torch.no_grad():
                torch._foreach_copy_(list(self.parameters.values()), held)

    @contextmanager
    def alone(self, others: Sequence[Player]) -> Iterator[None]:
        """Gradients flow through the other players' parts, not to their parameters."""
        parameters = [p for other in others for p in other.parameters.values()]
        for p in parameters:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in parameters:
                p.requires_grad_(True)


def make_players(recipe: Recipe, stage: Stage, model: Model, losses: Mapping[str, Loss | CriticLoss]) -> list[Player]:
    """The players of a stage, the critic first."""
    players = []
    for name, side in SIDES.items():
        terms = []
        for loss in (loss for loss in stage.losses if isinstance(losses[loss], side)):
            entry = recipe.losses[loss]
            # The weight of a loss with two sides belongs to the model's; the critic minimises its own side as it is.
            as_it_is = name == CRITIC and isinstance(losses[loss], AdversarialLoss)
            weight, factor = (1.0, 1.0) if as_it_is else (entry.weight, stage.losses[loss])
            terms.append(Term(loss, weight, factor, entry.every))
        parameters = _parameters(recipe, stage, model, losses, name)
        if terms and parameters:
            optimizer = build.build_optimizer(recipe, name).build(parameters)
            players.append(Player(name, parameters, terms, optimizer, stage.lr, recipe.players[name].every))
    return players


def _parameters(
    recipe: Recipe, stage: Stage, model: Model, losses: Mapping[str, Loss | CriticLoss], player: str
) -> dict[str, nn.Parameter]:
    found: dict[str, nn.Parameter] = {}
    for trained in stage.train:
        if (trained.partition(".")[0] in recipe.critics()) == (player == CRITIC):
            found |= {f"{trained}.{name}": p for name, p in model.parts.get_submodule(trained).named_parameters()}
    for loss in build.losses_with_terms(recipe, tuple(stage.losses)):
        if isinstance(losses[loss], CriticLoss) == (player == CRITIC):
            found |= {f"losses.{loss}.{name}": p for name, p in losses[loss].named_parameters()}
    return found


def set_trainable(model: Model, trained: Sequence[str]) -> None:
    """Frozen parts get no gradient and stay as they are: dropout off, statistics fixed. `trained` names parts, and sub-modules (``PART.NAME``) of frozen ones.

    Recurrent layers of what is frozen alone stay in train mode, with dropout 0: cuDNN has no backward pass in evaluation mode.
    """
    model.parts.eval().requires_grad_(False)
    for name in trained:
        model.parts.get_submodule(name).train().requires_grad_(True)
    for module in model.parts.modules():
        if isinstance(module, nn.RNNBase):
            dropout = module.__dict__.setdefault("dropout_when_trained", module.dropout)
            module.dropout = dropout if module.training else 0.0
            module.train()


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as tensors (``index.name``) and as plain values; numbers that its groups keep are ``group.index.name``."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            (tensors if isinstance(value, Tensor) else values)[f"{index}.{name}"] = value
    for number, group in enumerate(optimizer.param_groups):
        kept = {name: value for name, value in group.items() if isinstance(value, int | float) and value != optimizer.defaults.get(name)}
        values |= {f"group.{number}.{name}": value for name, value in kept.items()}
    return tensors, values


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Takes back what `pack_optimizer` gave; moments keep their parameter's memory layout."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    groups = optimizer.state_dict()["param_groups"]
    for key, value in {**tensors, **values}.items():
        index, name = key.split(".", 1)
        if index == "group":
            number, name = name.split(".", 1)
            groups[int(number)][name] = value
            continue
        parameter = parameters[int(index)]
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(sharded_as(value, parameter))
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})


class Average:
    """Averaged parameters of parts and losses.

    Each has a count of its own, which goes on from stage to stage: one that is trained for the first time in the last stage must not remember its
    first weights for longer than one that is trained in the first.

    Args:
        modules: owner (``parts.PART``, ``losses.LOSS``, and ``parts.PART.NAME`` for a sub-module that may be trained alone) → what has the
            parameters; a sub-module's are its own, and not the part's. By default there is no average.

    Attributes:
        weights: name (``OWNER.…``) → averaged weight.
        steps: owner → steps that its average has followed.
    """

    def __init__(self, modules: Mapping[str, nn.Module] | None = None) -> None:
        named: dict[nn.Parameter, str] = {}  # one that two modules share is averaged once
        self._names: dict[str, list[str]] = {}
        for owner, module in sorted((modules or {}).items(), key=lambda item: -item[0].count(".")):  # sub-modules first
            for name, parameter in module.named_parameters():
                if parameter not in named:
                    named[parameter] = f"{owner}.{name}"
                    self._names.setdefault(owner, []).append(named[parameter])
        self._parameters = {name: parameter.data for parameter, name in named.items()}
        self.weights = {name: p.clone() for name, p in self._parameters.items()}
        self.steps = Counter[str]()

    def _within(self, owners: Iterable[str]) -> list[str]:
        """The owners of averages that are among these, or sub-modules of them."""
        among = [f"{owner}." for owner in owners]
        return [owner for owner in self._names if any(f"{owner}.".startswith(one) for one in among)]

    def follow(self, owners: Iterable[str], decay: float) -> None:
        """Takes in a step of these modules. The decay grows as (1 + t) / (10 + t), or a long average would remember the first weights."""
        grown: dict[float, list[str]] = {}
        for owner in self._within(owners):
            self.steps[owner] += 1
            grown.setdefault(min(decay, (1 + self.steps[owner]) / (10 + self.steps[owner])), []).extend(self._names[owner])
        for part, names in grown.items():
            torch._foreach_lerp_([self.weights[name] for name in names], [self._parameters[name] for name in names], 1 - part)

    def restart(self, owner: str) -> int:
        """The average of a module begins anew at its present weights; gives the steps that it had followed."""
        within = self._within([owner])
        for name in (name for one in within for name in self._names[one]):
            self.weights[name].copy_(self._parameters[name])
        return max((self.steps.pop(one, 0) for one in within), default=0)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within, the parameters have their averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, average in self.weights.items():
            held = average.clone()
            average.copy_(self._parameters[name])
            self._parameters[name].copy_(held)

    def state(self) -> dict[str, Tensor]:
        """Weights by name, and ``steps.OWNER``."""
        return self.weights | {f"steps.{owner}": torch.tensor(self.steps[owner]) for owner in self._names}

    def restore(self, state: Mapping[str, Tensor], steps: int = 0) -> None:
        """Takes back what `state` gave; a weight that is missing there is the parameter's, a count that is missing its part's, or `steps`."""
        for name, average in self.weights.items():
            average.copy_(sharded_as(state.get(name, self._parameters[name]), average))
        for owner in self._names:
            whole = ".".join(owner.split(".")[:2])
            self.steps[owner] = int(state.get(f"steps.{owner}", state.get(f"steps.{whole}", steps)))
