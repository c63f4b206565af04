"""Texts that end because they may not be longer, counted for whoever asks. Torch-free to import. Shapes: b batch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import attrs

from ibllm_core.errors import Notice

if TYPE_CHECKING:
    from torch import Tensor


@attrs.define
class Ends:
    """What became of the texts that were written.

    Attributes:
        cut: for each, in the order in which they were written, whether it ended because it may not be longer; None where a search found none.
        most: how many tokens a text may have.
    """

    cut: list[bool | None] = attrs.field(factory=list)
    most: int = 0

    def said(self) -> str:
        """A sentence about those that were cut; empty where none was."""
        if not any(self.cut):
            return ""
        written = [cut for cut in self.cut if cut is not None]
        alone = len(written) == 1
        which = "the text that was written ends" if alone else f"{sum(written)} of {len(written)} texts that were written end"
        return f"{which} because {'it' if alone else 'they'} may not be longer than max_length = {self.most} tokens"


_ASKED: ContextVar[Ends | None] = ContextVar("ends", default=None)


@contextmanager
def counted_ends() -> Iterator[Ends]:
    """Within, in this thread, what text decoders write is counted."""
    ends = Ends()
    token = _ASKED.set(ends)
    try:
        yield ends
    finally:
        _ASKED.reset(token)


@contextmanager
def told_of_ends() -> Iterator[None]:
    """Within, texts are counted; at the end those that were cut are told by a warning, `Notice`. Of several around each other the outermost tells."""
    if _ASKED.get() is not None:
        yield
        return
    with counted_ends() as ends:
        yield
    if said := ends.said():
        warnings.warn(Notice(said), stacklevel=4)


def count_ends(cut: Tensor, most: int, there: Tensor | None = None) -> None:
    """Counts texts (b), True where one was cut at `most` tokens, but for those that are not `there` (b). On a device this waits: only where somebody asks."""
    if (ends := _ASKED.get()) is not None:
        found = cut.tolist()
        ends.cut += found if there is None else [one if is_one else None for one, is_one in zip(found, there.tolist(), strict=True)]
        ends.most = most
