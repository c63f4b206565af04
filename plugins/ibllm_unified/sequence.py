"""How text and image lie in one sequence: pieces after each other, where each place is, and who sees whom.

Shapes: b batch, n places of a piece, t places of a row, e width of a head, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: A place of a text is (1 + number, 0, 0), one of an image (0, row, column): what stands between a text and an image does not move either.
COORDINATES = 3
#: Wave numbers of a text's places fall from 1 to 1 / this, of an image's rows and columns to 1 / the other.
LONGEST_TEXT, LONGEST_IMAGE = 10_000.0, 100.0


class Piece(NamedTuple):
    """A part of a sequence: a text, an image, a task token.

    Attributes:
        x: (b n d) embedded.
        mask: (b n) bool, what is there; what is not is left out of the sequence.
        coordinates: (n 3) or (b n 3) int64.
    """

    x: Tensor
    mask: Tensor
    coordinates: Tensor


@attrs.define(eq=False)
class Order:
    """One order of text and image: what is read, and what is made of the hidden states of its last piece.

    Attributes:
        pieces: one after the other; those before the last one may have places that are left out.
        whole: the piece whose places see each other, later ones too; −1 where all is causal.
        finish: the last piece's hidden states (b n d) → what is asked of them, (b) −log p in nats.
    """

    pieces: Sequence[Piece]
    whole: int
    finish: Callable[[Tensor], Tensor] = lambda hidden: hidden


def text_coordinates(places: int, device: torch.device) -> Tensor:
    """(n 3) of a text's places."""
    return F.pad(torch.arange(1, places + 1, device=device)[:, None], (0, 2))


def grid_coordinates(rows: int, columns: int, device: torch.device) -> Tensor:
    """(rows·columns 3) of an image's places, row by row."""
    row, column = torch.arange(rows, device=device), torch.arange(columns, device=device)
    grid = torch.stack([row[:, None].expand(rows, columns), column.expand(rows, columns)], -1)
    return F.pad(grid.flatten(0, 1), (1, 0))


class Rotary(nn.Module):
    """Rotary positions of text and image at once: one half of a head's pairs turns with the place in the text, a quarter each with row and column.

    As in Qwen2-VL (Wang et al. 2024, section 2.1, M-RoPE); there a text turns all three.
    """

    waves: Tensor

    def __init__(self, head: int) -> None:
        super().__init__()
        if head % 8:
            raise ValueError(f"heads: expected heads whose width is a multiple of 8, for positions in three directions, not {head}")
        quarter = head // 8
        waves = torch.zeros(COORDINATES, head // 2)
        waves[0, : 2 * quarter] = LONGEST_TEXT ** (-torch.arange(2 * quarter) / (2 * quarter))
        waves[1, 2 * quarter : 3 * quarter] = waves[2, 3 * quarter :] = LONGEST_IMAGE ** (-torch.arange(quarter) / quarter)
        self.register_buffer("waves", waves, persistent=False)

    def forward(self, coordinates: Tensor) -> Tensor:
        """(… 3) → (2 … e/2) cosine and sine."""
        angles = coordinates.to(self.waves.dtype) @ self.waves
        return torch.stack([angles.cos(), angles.sin()])


class Row(NamedTuple):
    """Pieces as one row an item, without what is left out, which is at the end.

    Attributes:
        x: (b t d).
        coordinates: (b t 3).
        mask: (b t) bool, True where there is a place.
        starts: (b) of each piece.
        whole: (b t) bool, the places that see each other both ways; None where there are none.
    """

    x: Tensor
    coordinates: Tensor
    mask: Tensor
    starts: list[Tensor]
    whole: Tensor | None


def joined(pieces: Sequence[Piece], whole: int = -1) -> Row:
    """The pieces one after the other; `whole` is the number of the one whose places see each other both ways."""
    b = len(pieces[0].x)
    x, mask = torch.cat([piece.x for piece in pieces], 1), torch.cat([piece.mask for piece in pieces], 1)
    places = torch.cat([piece.coordinates.expand(b, -1, -1) for piece in pieces], 1)
    lengths = [piece.mask.sum(1) for piece in pieces]
    starts = [torch.zeros_like(lengths[0])]
    for length in lengths[:-1]:
        starts.append(starts[-1] + length)
    order = _front(mask)
    x, places = (t.gather(1, order.unsqueeze(-1).expand_as(t)) for t in (x, places))
    mask = mask.gather(1, order)
    inside = None
    if whole >= 0:
        at = torch.arange(x.shape[1], device=x.device)
        inside = (at >= starts[whole][:, None]) & (at < (starts[whole] + lengths[whole])[:, None])
    return Row(x, places, mask, starts, inside)


def _front(mask: Tensor) -> Tensor:
    """mask (b t) → (b t), the places that are there and then the others, each in their order: what a stable sort would give, which graphs of ONNX lack."""
    there = mask.long()
    to = torch.where(mask, there.cumsum(1) - 1, there.sum(1, keepdim=True) + (1 - there).cumsum(1) - 1)
    return torch.zeros_like(to).scatter(1, to, torch.arange(mask.shape[1], device=mask.device).expand_as(to))


def visible(whole: Tensor) -> Tensor:
    """whole (b t) → (b t t) bool: a place sees itself, what comes before it and, among the places that see each other both ways, those after it."""
    at = torch.arange(whole.shape[1], device=whole.device)
    return (at[:, None] >= at) | (whole[:, :, None] & whole[:, None])


def taken(x: Tensor, start: Tensor, count: int) -> Tensor:
    """x (b t d), start (b) → (b count d), the places from each row's start on."""
    at = start[:, None] + torch.arange(count, device=x.device)
    return x.gather(1, at.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
