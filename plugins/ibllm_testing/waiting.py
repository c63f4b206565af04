"""Does anything wait for the device, or copy to it in a way that waits? Could it be captured? Told where it happens, on a machine without one too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_ATEN = torch.ops.aten
#: Operations whose result's size or value the host has to know.
READS = {
    _ATEN._local_scalar_dense,
    _ATEN.nonzero,
    _ATEN.masked_select,
    _ATEN._unique2,
    _ATEN.unique_dim,
    _ATEN.unique_consecutive,
    _ATEN.bincount,
    _ATEN.equal,
    _ATEN.is_nonzero,
}
#: Calls that make a tensor of Python's numbers: on the host, then copied.
_FROM_PYTHON = {torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor}


class Waited(AssertionError):
    """What waits, in words."""


@contextmanager
def nothing_waits(device: torch.device) -> Iterator[None]:
    """Within, what waits for a device raises `Waited`: a number or a size read from it, an index that has to be looked at or copied there, a copy from memory
    that is not pinned.

    The device may be `meta`: then it stands for an accelerator, to which tensors of the CPU have to be copied.
    """
    if device.type != "meta":
        with _Operations(device, None), _Calls(device):
            yield
        return
    real = torch.accelerator.current_accelerator
    pinned: dict[int, Tensor] = {}  # by address, which is nobody else's while the tensor is kept

    def pin(tensor: Tensor) -> Tensor:
        copy = tensor.clone()
        pinned[copy.data_ptr()] = copy
        return copy

    with (
        patch.object(torch.accelerator, "current_accelerator", lambda **how: real(**how) if how else device),
        patch.object(Tensor, "pin_memory", pin),
        _Operations(device, pinned),
        _Calls(device),
    ):
        yield


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, device: torch.device, pinned: Mapping[int, Tensor] | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kind, self.pinned = device.type, pinned

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, called = kwargs or {}, func.overloadpacket
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        here = any(self._there(tensor) for tensor in tensors)
        if here and called in READS:
            raise Waited(f"{called} waits for the device")
        if here and called is _ATEN.repeat_interleave and "repeats" in func._schema.arguments[0].name and kwargs.get("output_size") is None:
            raise Waited("repeat_interleave by a tensor waits for the device, unless output_size is said")
        if called in (_ATEN.index, _ATEN.index_put, _ATEN.index_put_, _ATEN._index_put_impl_) and self._there(args[0]):
            for index in (index for index in args[1] if index is not None):
                if index.dtype in (torch.bool, torch.uint8):
                    raise Waited("an index of true and false waits for the device, which has to count them; torch.where does not")
                if not self._there(index):
                    raise Waited("an index on the host is copied to the device, which waits")
        if called is _ATEN._to_copy:
            self._copies(args[0], torch.device(kwargs.get("device") or args[0].device).type, bool(kwargs.get("non_blocking")))
        elif called is _ATEN.copy_:
            self._copies(args[1], args[0].device.type, bool(args[2] if len(args) > 2 else kwargs.get("non_blocking")))
        return func(*args, **kwargs)

    def _there(self, tensor: Tensor) -> bool:
        return tensor.device.type == self.kind

    def _copies(self, source: Tensor, to: str, non_blocking: bool) -> None:
        if self._there(source) and to == "cpu":
            raise Waited("a copy to the host waits for the device")
        if source.device.type == "cpu" and to == self.kind:
            pinned = source.data_ptr() in self.pinned if self.pinned is not None else source.is_pinned()
            if not (pinned and non_blocking):
                raise Waited("a copy to the device waits unless it is from pinned memory and non_blocking")


class _Calls(TorchFunctionMode):
    """What is no operation of its own any more when it gets to the device."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.kind = device.type

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.__getitem__, Tensor.__setitem__) and args[0].device.type == self.kind:
            indices = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(index, list | range | np.ndarray) for index in indices):
                raise Waited("an index of Python's numbers is made a tensor and copied to the device, which waits")
        if func in _FROM_PYTHON:
            of = args[0] if func is Tensor.new_tensor else None
            device = kwargs.get("device") or (of.device if of is not None else torch.get_default_device())
            if torch.device(device).type == self.kind and not isinstance(args[-1], Tensor):
                raise Waited(
                    "a tensor made of Python's numbers is copied to the device, which waits; torch.full and torch.arange make it there"
                )
        return func(*args, **kwargs)


def play_as_captured(name: str, module: nn.Module, play: Callable[[], object]) -> None:
    """Plays a pass twice. Raises `Waited` where the second one puts a tensor in another's place, or changes a plain value: a pass that is captured
    (CUDA graphs) works on the memory that it was captured with, and runs no Python."""
    play()
    memory, plain = _memory(module), _plain(module)
    play()
    after = _memory(module)
    moved = [key for key, (tensor, place) in memory.items() if key not in after or after[key][0] is not tensor or after[key][1] != place]
    if moved:
        raise Waited(
            f"{name} cannot be captured: a pass puts another tensor in the place of {', '.join(moved)}; change it in place, with copy_ say"
        )
    counted = [key for key, value in _plain(module).items() if plain.get(key) != value]
    if counted:
        raise Waited(f"{name} cannot be captured: a pass changes {', '.join(counted)}, which would stay as it is; keep it in a buffer")


def _memory(module: nn.Module) -> dict[str, tuple[Tensor, int]]:
    return {name: (tensor, tensor.data_ptr()) for name, tensor in (*module.named_parameters(), *module.named_buffers())}


def _plain(module: nn.Module) -> dict[str, object]:
    kinds = (bool, int, float, str)
    return {
        f"{name}.{key}".lstrip("."): value
        for name, inside in module.named_modules()
        for key, value in vars(inside).items()
        if isinstance(value, kinds)
    }
