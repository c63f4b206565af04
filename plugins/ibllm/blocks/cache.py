"""Keys and values of what was read, kept while tokens are written one by one.

Shapes: b batch, l layers, h heads, s places, t places that are new, e width of a head, d width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .attention import Attention


class KeyValueCache(NamedTuple):
    """Allocated whole and written in place: a step copies nothing. A tree of tensors with the batch as first axis, so that rows can be picked from it.

    Attributes:
        keys, values: (b l h s e).
    """

    keys: Tensor
    values: Tensor

    @classmethod
    def empty(cls, like: Tensor, layers: int, places: int) -> KeyValueCache:
        """For so many layers and places, of the type of the keys `like` (b h … e)."""
        keys = like.new_zeros(len(like), layers, like.shape[1], places, like.shape[-1])
        return cls(keys, keys.clone())

    def attend(self, attention: Attention, layer: int, x: Tensor, start: int | Tensor, mask: Tensor) -> Tensor:
        """A layer's self-attention for new places, whose keys and values are kept. Without gradients.

        Args:
            x: (b t d).
            start: the first of the new places; or (b) the one new place of each row.
            mask: (b s') or (b t s') the places that may be looked at: s' = start + t, or s where each row has a place of its own.

        Returns: (b t d).
        """
        return attention(x, *self.write(layer, *attention.keys_values(x), start), mask)

    def write(self, layer: int, key: Tensor, value: Tensor, start: int | Tensor) -> tuple[Tensor, Tensor]:
        """Keeps a layer's keys and values (b h t e) of new places; gives those (b h s' e) that these may be asked to look at, as `attend` says.

        Args:
            start: the first of the new places, of all rows or (b) of each.
        """
        keys, values = self.keys[:, layer], self.values[:, layer]
        if isinstance(start, int):
            end = start + key.shape[2]
            keys, values = keys[:, :, :end], values[:, :, :end]
            keys[:, :, start:], values[:, :, start:] = key, value
        else:
            place = (start[:, None] + torch.arange(key.shape[2], device=key.device))[:, None, :, None].expand_as(key)
            keys.scatter_(2, place, key)
            values.scatter_(2, place, value)
        return keys, values
