"""Counts floating-point operations on the meta device, and makes walks on it quick."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from .shapes import META


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
            flops, described = self._seen[key]
            out = _made(described)
        else:
            out = func(*args, **kwargs)
            formula = flop_registry.get(func._overloadpacket)
            flops = 0 if formula is None else int(formula(*args, **kwargs, out_val=out))
            if key is not None and _is_meta(out):
                self._seen[key] = flops, _described(out)
        self.flops += flops
        return out


@functools.cache
def _is_pure(func: Any) -> bool:
    """False for views and for operations that write into their arguments."""
    schema = func._schema
    return all(value.alias_info is None for value in (*schema.arguments, *schema.returns))


class _Tensor(tuple[Any, ...]):
    """A tensor's size, stride, dtype and device."""


def _described(value: Any) -> Any:
    """A value that can be a key, from which a result on the meta device can be made again."""
    if isinstance(value, Tensor):
        return _Tensor((value.shape, value.stride(), value.dtype, value.device))
    if isinstance(value, tuple | list):
        return type(value), *map(_described, value)
    return type(value), value  # with its type: True and 1 are equal


def _is_meta(out: Any) -> bool:
    """True for meta tensors, None, and tuples and lists of them."""
    if isinstance(out, tuple | list):
        return all(map(_is_meta, out))
    return out is None or (isinstance(out, Tensor) and out.device == META)


def _made(described: Any) -> Any:
    if isinstance(described, _Tensor):
        size, stride, dtype, device = described
        return torch.empty_strided(size, stride, dtype=dtype, device=device)
    kind, *values = described
    return None if kind is type(None) else kind(map(_made, values))
