"""How a part holds a module that belongs to the model, ``[model.shared.NAME]``, and to other parts as much as to itself."""

from __future__ import annotations

from torch import nn


def borrow(part: nn.Module, **modules: nn.Module) -> None:
    """Makes modules attributes of a part, or of a module within it, without registering them: the model has, counts, trains and saves them once.

    A part is built with them by ``context.shared``. They follow a part that is copied together with its model, and they are in train mode, or frozen,
    as the stage says of them, whatever the part is.

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
