"""A critic that looks at the other images of the batch, too. Shapes: b batch, B the whole batch, k kernels, r numbers of each, p patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from ibllm.plugin import Cycle, at_least_float32


@runtime_checkable
class ComparesItems(Protocol):
    """A critic with minibatch discrimination (its option ``minibatch``), which judges how near an image is to others, beside judging it."""

    #: Kernels; 0 for none.
    minibatch: int

    def kernels(self, y: Tensor) -> Tensor:
        """y (b c h w) in [−1, 1] → what distances are taken of (b k r)."""

    def closeness(self, near: Tensor) -> Tensor:
        """How near an image is to others by each kernel (b k) → what is added to its score (b)."""


def near(own: Tensor, others: Tensor, number: Tensor) -> Tensor:
    """The mean over the others j of exp(−‖own_k − others_jk‖₁) (Salimans et al. 2016, section 3.2, there the sum).

    Args:
        own: (b k r).
        others: (B k r), without a graph, own ones among them.
        number: (b) which they are.
    """
    apart = torch.exp(-(own[:, None] - others).abs().sum(-1))
    itself = torch.zeros_like(apart[..., 0]).scatter(1, number[:, None], 1.0)
    return (apart * (1 - itself)[..., None]).sum(1) / max(len(others) - 1, 1)


def compared(cycle: Cycle, scores: Tensor, y: Tensor, what: str, of: Callable[[Cycle], Tensor]) -> Tensor:
    """Scores (b) or (b p) of images y, to which a critic with minibatch discrimination adds what it thinks of their nearness to the rest of the batch.

    Gradients go through an item's own place alone, not through the others': an item's score changes with its image as for any critic, and
    however the batch is shared the gradients are the same.

    Args:
        what: real or generated, for the name of what is gathered.
        of: a share of the batch → its images as the critic sees them.
    """
    critic = cycle.model.part("discriminator")
    if not getattr(critic, "minibatch", 0):
        return scores
    judge = cast(ComparesItems, critic)
    own = cycle.through("discriminator", "kernels", lambda: judge.kernels(y), y)
    others, rows = cycle.whole(f"ibllm_adversarial.kernels.{what}", lambda share: own if share is cycle else judge.kernels(of(share)))
    number = torch.arange(len(others), device=own.device)[rows]
    added = cycle.through(
        "discriminator", "closeness", lambda: judge.closeness(near(at_least_float32(own), at_least_float32(others), number)), own
    )
    return scores + (added[:, None] if scores.dim() > 1 else added)
