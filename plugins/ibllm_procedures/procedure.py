"""How an iteration is played. The signs below are those of descent: each player minimises its own loss."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from torch import Tensor

from ibllm.plugin import Context, EvaluationWeights, Iteration, Procedure, UserError
from ibllm_procedures.config import AlternateConfig, ExtragradientConfig, LookaheadConfig


class Alternate(Procedure):
    """Alternating gradient descent: the critic's step first, then the model's against the critic that it has become (Goodfellow et al. 2014, alg. 1)."""

    def __init__(self, config: AlternateConfig, context: Context) -> None:
        pass


class Extragradient(Procedure):
    """θ̃ = θ − η·g(θ), then θ ← θ − η·g(θ̃): gradients are taken where a first step of all players would lead (Korpelevich 1976).

    Gidel et al. 2019, "A Variational Inequality Perspective on GANs" (arXiv 1802.10551), section 3.2. Both steps are the player's optimizer's; with Adam
    this is their algorithm 4 (ExtraAdam), whose averages take in both gradients. The batch and its noise are the same for both, where the authors
    draw another. An iteration costs twice as many passes.
    """

    def __init__(self, config: ExtragradientConfig, context: Context) -> None:
        pass

    def alike(self, step: int) -> Hashable:
        return 0

    def iterate(self, iteration: Iteration) -> None:
        _refuse_evaluation_weights(iteration, "extragradient")
        due = iteration.due
        held = [[p.detach().clone() for p in player.parameters.values()] for player in due]
        for player in due:
            iteration.gradients(player)
        for player in due:
            iteration.move(player)
        iteration.forget()
        for player in due:
            iteration.gradients(player)
        with torch.no_grad():
            for player, weights in zip(due, held, strict=True):
                torch._foreach_copy_(list(player.parameters.values()), weights)
        for player in due:
            iteration.update(player)


class Lookahead(Procedure):
    """Players take turns; after every k-th iteration θ ← θ_slow ← θ_slow + α·(θ − θ_slow), for all players together.

    Chavdarova et al. 2021, "Taming GANs with Lookahead-Minmax" (arXiv 2006.14567), algorithm 1; with one player it is Zhang et al. 2019, "Lookahead Optimizer:
    k steps forward, 1 step back". Optimizers keep their moments. A stage begins with θ_slow = θ.
    """

    def __init__(self, config: LookaheadConfig, context: Context) -> None:
        self.every, self.alpha = config.every, config.alpha
        self._slow: dict[str, Tensor] = {}

    def alike(self, step: int) -> Hashable:
        return self._goes_back(step)

    def iterate(self, iteration: Iteration) -> None:
        _refuse_evaluation_weights(iteration, "lookahead")
        weights = {f"{player.name}.{name}": p for player in iteration.players for name, p in player.parameters.items()}
        slow = {name: self._slow[name].to(p) if self._slow else p.detach().clone() for name, p in weights.items()}
        self._slow = slow
        super().iterate(iteration)
        if self._goes_back(iteration.step):
            with torch.no_grad():
                torch._foreach_lerp_(list(slow.values()), list(weights.values()), self.alpha)
                torch._foreach_copy_(list(weights.values()), list(slow.values()))

    def _goes_back(self, step: int) -> bool:
        return (step + 1) % self.every == 0

    def state(self) -> Mapping[str, Tensor]:
        return self._slow

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._slow = {name: tensor.clone() for name, tensor in state.items()}


def _refuse_evaluation_weights(iteration: Iteration, name: str) -> None:
    if any(isinstance(player.optimizer, EvaluationWeights) for player in iteration.players):
        raise UserError(
            f"{name} puts weights back, which an optimizer that trains at other weights than those to be used (schedule_free) cannot follow: "
            "expected another optimizer"
        )
