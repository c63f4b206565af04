"""What losses and parts tell of themselves while they are computed: the terms of a sum, for the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

#: Name → values () logged so far, and whose are logged now; None where nobody asks.
_LOGGED: ContextVar[tuple[dict[str, list[Tensor]], str, torch.device] | None] = ContextVar("logged", default=None)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def log(name: str, value: Tensor | float) -> None:
    """Logs a number of the loss or the part that is computed now, a mean over the batch's items, under `name`; where nothing is trained, nothing happens.

    Of a loss it is ``loss/LOSS/NAME`` in metrics.jsonl, in trackers and in the report, of a part ``part/PART/NAME``: the mean over items, micro-batches,
    ranks and steps since the last row. The device is not waited for. It has to be finite, as a loss has.
    """
    if (now := _LOGGED.get()) is None:
        return
    into, whose, device = now
    value = value.detach() if isinstance(value, Tensor) else torch.full((), float(value), device=device)
    if value.dim():
        raise ValueError(f"log({name!r}): the value has the shape {tuple(value.shape)}; expected a number, or a tensor of shape ()")
    into.setdefault(f"{whose}/{name}", []).append(value)


@contextmanager
def logging(into: dict[str, list[Tensor]], whose: str, device: torch.device) -> Iterator[None]:
    """Within, what is logged belongs to a loss or a part, `whose`, and is put into a table."""
    token = _LOGGED.set((into, whose, device))
    try:
        yield
    finally:
        _LOGGED.reset(token)
