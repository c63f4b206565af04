"""Counts floating-point operations on the meta device, and makes walks on it quick."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from .inputs import META


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within, `flops` grows by what each operation costs, by torch's own formulas (those of `torch.utils.flop_counter.FlopCounterMode`).

    What an operation gives on the meta device depends on its arguments' shapes alone, but most are written in Python there and take long. So the
    results of operations that neither change nor share what they are given are remembered: the walks of one check ask for the same ones many times.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self._seen: dict[Any, tuple[int, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        key = (func, _described(args), _described(tuple(kwargs.items()))) if _is_pure(func) else None
        if key in self._seen:
            flops, known = self._seen[key]
            out = _alike(known)
        else:
            out = func(*args, **kwargs)
            formula = flop_registry.get(func._overloadpacket)
            flops = 0 if formula is None else int(formula(*args, **kwargs, out_val=out))
            if key is not None and all(leaf is None or (isinstance(leaf, Tensor) and leaf.device == META) for leaf in tree_leaves(out)):
                self._seen[key] = flops, _alike(out)
        self.flops += flops
        return out


@functools.cache
def _is_pure(func: Any) -> bool:
    """False for views and for operations that write into their arguments."""
    schema = func._schema
    return all(value.alias_info is None for value in (*schema.arguments, *schema.returns))


def _described(value: Any) -> Any:
    """All of a value that decides what an operation gives on the meta device, as a key."""
    if isinstance(value, Tensor):
        return Tensor, value.shape, value.stride(), value.dtype, value.device
    if isinstance(value, tuple | list):
        return type(value), *map(_described, value)
    return type(value), value  # with its type: True and 1 are equal


def _alike(out: Any) -> Any:
    """New tensors of the same sizes: what autograd hangs on a result belongs to that one alone."""
    if isinstance(out, Tensor):
        return torch.empty_strided(out.shape, out.stride(), dtype=out.dtype, device=out.device)
    return type(out)(map(_alike, out)) if isinstance(out, tuple | list) else out
