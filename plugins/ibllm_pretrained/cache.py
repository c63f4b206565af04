"""A cache for `transformers` whose rows may be at different places. It imports `transformers`, so it is imported when a text is written.

Shapes: b batch, h heads, s places, e width of a head.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache


class RowLayer(CacheLayerMixin):  # type: ignore[misc]
    """A layer's keys and values (b h s e), allocated whole and written in place; each row's new one at its own place (b)."""

    def __init__(self, keys: Tensor, values: Tensor, place: Tensor) -> None:
        super().__init__()
        self.keys, self.values, self.place, self.is_initialized = keys, values, place, True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """There is nothing left to do."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Keys and values of one new place (b h 1 e) → all of them."""
        place = self.place[:, None, None, None]
        for kept, new in ((self.keys, key_states), (self.values, value_states)):  # under autocast, a pass may give another type
            kept.scatter_(2, place.expand_as(new), new.to(kept.dtype))
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[2], 0

    def get_seq_length(self) -> int:
        length: int = self.keys.shape[2]
        return length

    def get_max_length(self) -> int:
        length: int = self.keys.shape[2]
        return length


def growing() -> Any:
    """An empty cache that a first pass over many places fills."""
    return DynamicCache()


def with_room(cache: Any, more: int) -> tuple[list[Tensor], list[Tensor]]:
    """Keys and values of every layer of a filled cache, with room for `more` places."""
    wide = [[F.pad(one, (0, 0, 0, more)) for one in (layer.keys, layer.values)] for layer in cache.layers]
    return [keys for keys, _ in wide], [values for _, values in wide]


def by_rows(keys: list[Tensor], values: list[Tensor], place: Tensor) -> Any:
    """The cache in which each row's next place is `place` (b)."""
    return Cache(layers=[RowLayer(*pair, place) for pair in zip(keys, values, strict=True)])
