"""Optimizers: torch's, with decay for matrices only and one fused kernel where there is one."""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ibllm.plugin import Context, Optimizer
from ibllm_optim.config import AdamConfig, AdamWConfig, ScheduleFreeConfig, SGDConfig


def fusible(parameters: list[nn.Parameter]) -> bool:
    """Whether torch has a fused step for these parameters."""
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda") and not hasattr(p, "device_mesh") for p in parameters)


def on_cuda(parameters: list[nn.Parameter]) -> bool:
    return all(p.device.type == "cuda" and not hasattr(p, "device_mesh") for p in parameters)


def device_rate(rate: float, parameters: list[nn.Parameter]) -> float | torch.Tensor:
    """A rate, on CUDA as a tensor there: a step that is captured reads what the schedule has put into it."""
    return torch.tensor(rate, device=parameters[0].device) if on_cuda(parameters) else rate


def parameter_groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices decay; biases, gains and other tensors with fewer than two axes do not."""
    if weight_decay == 0:
        return [{"params": parameters, "weight_decay": 0.0}]
    matrices, vectors = [p for p in parameters if p.dim() >= 2], [p for p in parameters if p.dim() < 2]
    found = ({"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0})
    return [group for group in found if group["params"]]


class _TorchOptimizer(Optimizer):
    _class: type[torch.optim.Optimizer]

    def __init__(self, config: AdamWConfig | AdamConfig | SGDConfig, context: Context) -> None:
        self.config = config

    @abstractmethod
    def _options(self, parameters: list[nn.Parameter]) -> dict[str, Any]:
        """What this optimizer's class takes besides parameters and rate."""

    def build(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        listed = list(parameters.values())
        options = {"lr": device_rate(self.config.lr, listed), "fused": fusible(listed) or None, **self._options(listed)}
        return self._class(parameter_groups(listed, self.config.weight_decay), **options)


class Adam(_TorchOptimizer):
    """`torch.optim.Adam`."""

    config: AdamConfig
    _class: type[torch.optim.Optimizer] = torch.optim.Adam

    def _options(self, parameters: list[nn.Parameter]) -> dict[str, Any]:
        given = self.config
        return {"betas": given.betas, "eps": given.eps, "amsgrad": given.amsgrad, "capturable": on_cuda(parameters)}


class AdamW(_TorchOptimizer):
    """`torch.optim.AdamW`."""

    config: AdamWConfig
    _class: type[torch.optim.Optimizer] = torch.optim.AdamW

    def _options(self, parameters: list[nn.Parameter]) -> dict[str, Any]:
        given = self.config
        return {"betas": given.betas, "eps": given.eps, "amsgrad": given.amsgrad, "capturable": on_cuda(parameters)}


class SGD(_TorchOptimizer):
    """`torch.optim.SGD`."""

    config: SGDConfig
    _class: type[torch.optim.Optimizer] = torch.optim.SGD

    def _options(self, parameters: list[nn.Parameter]) -> dict[str, Any]:
        return {"momentum": self.config.momentum, "nesterov": self.config.nesterov}


class ScheduleFree(Optimizer):
    """`schedulefree.AdamWScheduleFree`: gradients at y = (1 − β₁)·z + β₁·x, steps of z, and the average x that is used (Defazio et al. 2024, eqs. 1–3)."""

    def __init__(self, config: ScheduleFreeConfig, context: Context) -> None:
        if importlib.util.find_spec("schedulefree") is None:
            raise ValueError('the optimizer schedule_free needs the package schedulefree: pip install "ibllm[schedulefree]"')
        self.config = config

    def build(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        from schedulefree import AdamWScheduleFree

        given, listed = self.config, list(parameters.values())
        built = AdamWScheduleFree(parameter_groups(listed, given.weight_decay), lr=given.lr, betas=given.betas, eps=given.eps)
        built.train()
        return built
