"""Tensors in shards over the processes of a run (`torch.distributed.tensor`): what is done with them, and whole ones to and from shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor
    from typing_extensions import TypeIs


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
