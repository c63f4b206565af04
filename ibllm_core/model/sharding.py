"""Parts whose parameters, gradients and moments lie in shards over the processes of a run, by torch's FSDP; whole tensors to and from shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import isfunction
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from ..interfaces.image import Discriminator
from .model import Model

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor
    from typing_extensions import TypeIs


def shard(model: Model, count: int) -> list[str]:
    """Shards the model's parts over `count` processes, which hold the same weights. Gives those that stay whole, with the reason.

    A part is gathered when one of its methods is called, and is whole until the model's turn, or an inference, is over (`Model.reshard`).
    """
    from torch.distributed.device_mesh import init_device_mesh

    mesh, whole = init_device_mesh(model.device.type, (count,)), list[str]()
    held = [p for part in model.parts.values() for p in set(part.parameters())]
    for name, part in model.parts.items():
        parameters = list(part.parameters())
        if isinstance(part, Discriminator):
            whole.append(f"{name} (penalties differentiate it twice)")
        elif any(p.ndim == 0 for p in parameters):
            whole.append(f"{name} (it has a parameter without an axis)")
        elif any(sum(p is other for other in held) > 1 for p in parameters):
            whole.append(f"{name} (it shares parameters with another part)")
        elif parameters:
            model.sharded.append(_Sharded(part, mesh))
    return whole


class _Sharded(nn.Module):
    """Has the parameters of a part sharded. What is called on the part goes through `play`; what the part calls on itself meanwhile does not."""

    def __init__(self, part: nn.Module, mesh: DeviceMesh) -> None:
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        super().__init__()
        self.part, self.within = part, False
        # It is called several times in a turn: one call's passes must not free what another's need.
        fully_shard(self, mesh=mesh, reshard_after_forward=False).set_reshard_after_backward(False)
        register_fsdp_forward_method(self, "play")
        for method in ("forward", *_methods(part)):
            setattr(part, method, self._through(getattr(part, method)))

    def play(self, method: Callable[[], Any]) -> tuple[list[Any], TreeSpec]:
        """What a method gives, as FSDP finds the tensors in it; of what it is handed FSDP need not know: gradients are reduced once, at the end."""
        leaves, tree = tree_flatten(method())
        # A view that somebody writes into would lose the hook that FSDP hangs on it.
        return [leaf.clone() if isinstance(leaf, Tensor) and leaf.requires_grad and leaf._is_view() else leaf for leaf in leaves], tree

    def _through(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def called(*given: Any, **named: Any) -> Any:
            if self.within:
                return method(*given, **named)
            self.within = True
            try:
                return tree_unflatten(*self.play(lambda: method(*given, **named)))
            finally:
                self.within = False

        return called


def _methods(part: nn.Module) -> list[str]:
    """What is called on a part from outside beside its forward."""
    own = [vars(cls) for cls in type(part).__mro__ if not cls.__module__.startswith("torch.")]
    names = {name for defined in own for name, value in defined.items() if isfunction(value) and not name.startswith("_")}
    return sorted(names - set(dir(nn.Module)))


def in_shards(tensor: Tensor) -> TypeIs[DTensor]:
    """Whether a tensor lies in shards; said without an import that a run of one process would wait for."""
    return hasattr(tensor, "device_mesh")


def clip(parameters: Sequence[nn.Parameter], most: float) -> Tensor:
    """Scales gradients so that their norm is `most` at most, and gives what it was: that of all shards."""
    if not any(in_shards(p) for p in parameters):
        return nn.utils.clip_grad_norm_(parameters, most)
    found = [p.grad for p in parameters if p.grad is not None]
    norms = [whole(torch.linalg.vector_norm(gradient)) for gradient in found]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    torch._foreach_mul_([local(gradient) for gradient in found], (most / (norm + 1e-6)).clamp(max=1))
    return norm


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; where it lies in shards all processes ask for it at the same time."""
    return tensor.full_tensor() if in_shards(tensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """What this process has of a tensor."""
    return tensor.to_local() if in_shards(tensor) else tensor


def sharded_as(tensor: Tensor, other: Tensor) -> Tensor:
    """A tensor that all processes have whole, in shards where the `other` one is."""
    if not in_shards(other) or in_shards(tensor):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements, src_data_rank=None)
