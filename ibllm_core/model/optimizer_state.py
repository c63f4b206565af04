"""An optimizer's state taken apart into tensors and plain values, so that nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


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
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})
