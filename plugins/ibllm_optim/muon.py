"""Muon: for matrices, the momentum of the gradient made orthogonal; AdamW for what is no matrix or has no use for it.

m ← μ·m + (1 − μ)·g, W ← W − lr·s(a, b)·NS((1 − μ)·g + μ·m) for W (a b), where NS is a Newton–Schulz iteration towards U Vᵀ of the argument's
singular value decomposition U S Vᵀ (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/); s as in Liu et al. 2025 (arXiv 2502.16982), eq. 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ibllm.plugin import Context, Optimizer
from ibllm_optim.config import MuonConfig
from ibllm_optim.optimizer import fusible, parameter_groups

_SCALES = {"rms": "match_rms_adamw", "shape": "original"}


class CombinedOptimizer(torch.optim.Optimizer):
    """Several optimizers of different parameters as one: their groups and their state are its own."""

    def __init__(self, members: Sequence[torch.optim.Optimizer]) -> None:
        self.members = tuple(members)
        super().__init__([group for member in members for group in member.param_groups], {})
        self._share_state()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is None, "the loop takes gradients before it steps"
        for member in self.members:
            member.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share_state()

    def _share_state(self) -> None:
        start = 0
        for member in self.members:
            end = start + len(member.param_groups)
            member.param_groups, member.state = self.param_groups[start:end], self.state
            start = end


class Muon(Optimizer):
    """`torch.optim.Muon` for matrices, `torch.optim.AdamW` for the rest, in one optimizer."""

    def __init__(self, config: MuonConfig, context: Context) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ValueError(f"the optimizer muon needs torch >= 2.9; this is torch {torch.__version__}")
        self.config = config

    def build(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        given = self.config
        matrices = [p for name, p in parameters.items() if self._is_matrix(name, p)]
        chosen = {id(p) for p in matrices}
        rest = [p for p in parameters.values() if id(p) not in chosen]
        members: list[torch.optim.Optimizer] = []
        if matrices:
            options = {"nesterov": given.nesterov, "ns_steps": given.iterations, "adjust_lr_fn": _SCALES[given.scale]}
            members.append(
                torch.optim.Muon(matrices, lr=given.lr, weight_decay=given.weight_decay, momentum=given.momentum, **options)  # type: ignore[arg-type]
            )
        if rest:
            rate, fused = given.lr * given.others, fusible(rest) or None
            members.append(
                torch.optim.AdamW(parameter_groups(rest, given.weight_decay), lr=rate, betas=given.betas, eps=given.eps, fused=fused)
            )
        return CombinedOptimizer(members)

    def _is_matrix(self, name: str, parameter: nn.Parameter) -> bool:
        return parameter.dim() == 2 and not any(word in name.split(".") for word in self.config.adamw)
