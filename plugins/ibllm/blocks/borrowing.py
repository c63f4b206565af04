"""Modules that belong to the model, ``[model.shared.NAME]``, and to no part more than to another; how a part holds one.

Shapes: b batch, n places, d width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """Weights that several parts use. A module of this kind that is no `Backbone` has methods that its borrowers know of, and says so in its config
    by a capability of its own."""

    #: d, the width of what it works on.
    width: int

    @abstractmethod
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens (b n d), mask (b n) → tokens (b n d) (capability ``token_mixing``). What the mask leaves out never changes the others."""


def borrow(part: nn.Module, **modules: nn.Module) -> None:
    """Makes modules attributes of a part, or of a module within it, without registering them: the model has, counts, trains and saves them once.

    A part is built with them by ``context.shared``. They follow a part that is copied together with its model, and they are in train mode, or frozen,
    as the stage says of them, whatever the part is. The part calls their methods: outside of these their parameters may lie in shards.

    Example:
        >>> embedding, encoder = nn.Embedding(9, 4), nn.Module()
        >>> borrow(encoder, embedding=embedding)
        >>> encoder.embedding is embedding, list(encoder.parameters())
        (True, [])
    """
    vars(part).update(modules)


def borrowed(part: nn.Module) -> dict[str, nn.Module]:
    """Attribute → module of what a part, and whatever it is made of, has by `borrow`; each module once."""
    found: dict[nn.Module, str] = {}
    for path, module in part.named_modules():
        for name, held in vars(module).items():
            if isinstance(held, nn.Module):
                found.setdefault(held, f"{path}.{name}".lstrip("."))
    return {name: module for module, name in found.items()}
