"""What components are handed on the meta device, and that they leave it as it is, since others read it too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from ..interfaces.batch import Batch
from ..interfaces.latent import Tokens
from ..model.model import Model
from ..recipe.schema import Recipe
from .shapes import expect


def fabricate(model: Model, items: int, device: torch.device) -> Batch:
    """A batch of the right shapes and no meaning, with all that data can give."""

    def text(part: str) -> Tokens | None:
        if part not in model.tokenizers:
            return None
        shape = items, model.tokenizers[part].max_length
        return Tokens(torch.ones(shape, dtype=torch.int64, device=device), torch.ones(shape, dtype=torch.bool, device=device))

    def images() -> Tensor:
        return torch.zeros(items, *model.image_shape, device=device)

    read, written = text("text_encoder"), text("text_decoder")
    given = {"x": read, "x_out": written, "y": images(), "question": written, "answer": written}
    return Batch(numbers=np.arange(items), **given, unpaired_x=text("text_encoder"), unpaired_y=images())  # type: ignore[arg-type]


def as_given(recipe: Recipe, batch: Batch) -> Batch:
    """The batch without what the recipe's data do not give."""
    given, missing = recipe.data.config.provides(), dict[str, Any]()
    for ability, fields in {"captions": ("x", "x_out"), "images": ("y",), "questions": ("question", "answer")}.items():
        missing |= dict.fromkeys(fields) if ability not in given else {}
    for name, field in {"text": "unpaired_x", "images": "unpaired_y"}.items():
        missing |= {field: None} if name not in recipe.unpaired else {}
    return attrs.evolve(batch, **missing)


class Handed:
    """What has been handed out; `check` finds what was changed in place since, by the counter that autograd keeps for each tensor."""

    def __init__(self) -> None:
        self._handed: dict[str, tuple[Any, tuple[int, ...]]] = {}

    def add(self, name: str, given: Any) -> None:
        self._handed.setdefault(name, (given, _versions(given)))

    def check(self) -> None:
        """Raises `UserError` where something was changed."""
        changed = [name for name, (given, before) in self._handed.items() if _versions(given) != before]
        expect(
            not changed, f"it changes what it is handed in place ({', '.join(changed)}), which others read too; it has to work on a copy"
        )


@contextmanager
def unchanged(**inputs: Any) -> Iterator[None]:
    """Raises `UserError` where a tensor of the inputs is changed in place within."""
    handed = Handed()
    for name, given in inputs.items():
        handed.add(name, given)
    yield
    handed.check()


def _versions(given: Any) -> tuple[int, ...]:
    """How often each of the tensors in it has been changed in place."""
    if isinstance(given, Tensor):
        return (given._version,)
    if attrs.has(type(given)):
        return tuple(number for field in attrs.fields(type(given)) for number in _versions(getattr(given, field.name)))
    return ()
