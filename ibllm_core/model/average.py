"""Exponential moving averages of weights, through all stages of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Averaged parameters of parts and losses.

    Each has a count of its own, which goes on from stage to stage: one that is trained for the first time in the last stage must not remember its
    first weights for longer than one that is trained in the first.

    Args:
        modules: owner (``parts.PART``, ``losses.LOSS``) → what has the parameters; by default there is no average.

    Attributes:
        weights: name (``OWNER.…``) → averaged weight.
        steps: owner → steps that its average has followed.
    """

    def __init__(self, modules: Mapping[str, nn.Module] | None = None) -> None:
        named: dict[nn.Parameter, str] = {}  # one that two modules share is averaged once
        for owner, module in (modules or {}).items():
            for name, parameter in module.named_parameters():
                named.setdefault(parameter, f"{owner}.{name}")
        self._parameters = {name: parameter.data for parameter, name in named.items()}
        self.weights = {name: p.clone() for name, p in self._parameters.items()}
        owned = {owner: [name for name in self.weights if name.startswith(f"{owner}.")] for owner in modules or ()}
        self._names = {owner: names for owner, names in owned.items() if names}
        self.steps = Counter[str]()

    def follow(self, owners: Iterable[str], decay: float) -> None:
        """Takes in a step of these modules. The decay grows as (1 + t) / (10 + t), or a long average would remember the first weights."""
        for owner in (owner for owner in owners if owner in self._names):
            self.steps[owner] += 1
            grown = min(decay, (1 + self.steps[owner]) / (10 + self.steps[owner]))
            averages, weights = ([table[name] for name in self._names[owner]] for table in (self.weights, self._parameters))
            torch._foreach_lerp_(averages, weights, 1 - grown)

    def restart(self, owner: str) -> int:
        """The average of a module begins anew at its present weights; gives the steps that it had followed."""
        for name in self._names.get(owner, ()):
            self.weights[name].copy_(self._parameters[name])
        return self.steps.pop(owner, 0)

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
        """Takes back what `state` gave; a weight that is missing there is the parameter's, a count that is missing is `steps`."""
        for name, average in self.weights.items():
            average.copy_(state.get(name, self._parameters[name]))
        self.steps = Counter({owner: int(state.get(f"steps.{owner}", steps)) for owner in self._names})
