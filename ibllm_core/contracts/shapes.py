"""What a part has to give, said where it does not. Shapes: b batch, c h w image, n latent places, d latent width, v vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import UserError

META = torch.device("meta")


def expect_shape(what: str, tensor: Any, axes: str, wanted: tuple[int | None, ...]) -> None:
    expect(isinstance(tensor, Tensor), f"{what} is a {type(tensor).__name__}, not a tensor")
    found = tuple(tensor.shape)
    fits = len(found) == len(wanted) and all(w is None or f == w for f, w in zip(found, wanted, strict=True))
    if not fits:
        names = axes.split()
        sizes = " ".join(f"{axis}={'any' if size is None else size}" for axis, size in zip(names, wanted, strict=True))
        wrong = [axis for axis, f, w in zip(names, found, wanted, strict=False) if w is not None and f != w]
        blame = f", axis {', '.join(wrong)} is wrong" if wrong and len(found) == len(wanted) else ""
        raise UserError(f"{what} has shape {found}, the interface says ({axes}) with {sizes or 'no axes'}{blame}")


def expect(true: bool, problem: str) -> None:
    if not true:
        raise UserError(problem)
