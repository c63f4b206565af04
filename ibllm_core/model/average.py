"""Exponential moving averages of weights, through all stages of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class Average:
    """Averaged parameters of parts and losses.

    Each part (``parts.PART``) and loss (``losses.LOSS``) has a count of its own, which goes on from stage to stage: one that is trained for the first time
    in the last stage must not remember its first weights for longer than one that is trained in the first.

    Args:
        parameters: name (``parts.PART.…``, ``losses.LOSS.…``) → parameter; by default there is no average.

    Attributes:
        weights: name → averaged weight.
        steps: part or loss → steps that its average has followed.
    """

    def __init__(self, parameters: Mapping[str, Tensor] | None = None) -> None:
        self._parameters = dict(parameters or {})
        self.weights = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._names: dict[str, list[str]] = {}
        for name in self.weights:
            self._names.setdefault(".".join(name.split(".")[:2]), []).append(name)
        self.steps = dict.fromkeys(self._names, 0)

    def follow(self, owners: Iterable[str], decay: float) -> None:
        """Takes in a step of these parts and losses. The decay grows as (1 + t) / (10 + t), or a long average would remember the first weights."""
        for owner in (owner for owner in owners if owner in self.steps):
            self.steps[owner] += 1
            grown = min(decay, (1 + self.steps[owner]) / (10 + self.steps[owner]))
            averages, weights = ([table[name].data for name in self._names[owner]] for table in (self.weights, self._parameters))
            torch._foreach_lerp_(averages, weights, 1 - grown)

    def restart(self, owner: str) -> int:
        """The average of a part or loss begins anew at its present weights; gives the steps that it had followed."""
        for name in self._names.get(owner, ()):
            self.weights[name].copy_(self._parameters[name].data)
        followed = self.steps.get(owner, 0)
        self.steps |= {owner: 0} if owner in self.steps else {}
        return followed

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
            average.copy_(self._parameters[name].data)
            self._parameters[name].data.copy_(held)

    def state(self) -> dict[str, Tensor]:
        """Weights by name, and ``steps.OWNER``."""
        return self.weights | {f"steps.{owner}": torch.tensor(steps) for owner, steps in self.steps.items()}

    def restore(self, state: Mapping[str, Tensor], steps: int = 0) -> None:
        """Takes back what `state` gave; a weight that is missing there is the parameter's, a count that is missing is `steps`."""
        for name, average in self.weights.items():
            average.copy_(state.get(name, self._parameters[name].data))
        self.steps = {owner: int(state.get(f"steps.{owner}", steps)) for owner in self.steps}
