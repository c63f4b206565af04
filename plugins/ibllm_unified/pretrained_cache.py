"""Our cache as a model of `transformers` asks for one. It imports `transformers`, so it is imported where a sequence is gone on with.

Shapes: b batch, h heads of keys, t new places, s places, e width of a head.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from ibllm.plugin import KeyValueCache


class KeptLayer(CacheLayerMixin):  # type: ignore[misc]
    """A layer of a `KeyValueCache`, new places from start (b) on."""

    def __init__(self, cache: KeyValueCache, number: int, start: Tensor) -> None:
        super().__init__()
        self.kept, self.number, self.start, self.is_initialized = cache, number, start, True
        self.keys, self.values = cache.keys[:, number], cache.values[:, number]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """There is nothing left to do."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Keys and values of new places (b h t e) → of all (b h s e)."""
        key, value = (new.to(self.kept.keys.dtype) for new in (key_states, value_states))
        return self.kept.write(self.number, key, value, self.start)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[2], 0

    def get_seq_length(self) -> int:
        length: int = self.keys.shape[2]
        return length

    def get_max_length(self) -> int:
        length: int = self.keys.shape[2]
        return length


def kept(cache: KeyValueCache, start: Tensor) -> Any:
    """The cache for one pass."""
    return Cache(layers=[KeptLayer(cache, number, start) for number in range(cache.keys.shape[1])])
