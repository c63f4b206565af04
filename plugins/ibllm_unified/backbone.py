"""The transformer over text and image that both directions share.

Shapes: b batch, t places, d width, h heads, e width of a head, l layers, s places that a cache has, v vocabulary, T places of all rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Config, Context, Dropout, KeyValueCache, Tokenizer, attention_bias
from ibllm_unified.config import BackboneConfig
from ibllm_unified.sequence import Order, Piece, Rotary, Row, joined, taken, visible


class _Spread(torch.autograd.Function):
    """x (k …), there (k) distinct places → (count …), zeros elsewhere. Its backward pass copies rows; that of torch's own operation clones and adds."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(there)
        return x.new_zeros(count, *x.shape[1:]).index_copy_(0, there, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (there,) = ctx.saved_tensors
        return _taken(grad, there), None, None


class _Taken(torch.autograd.Function):
    """The other way: x (count …), there (k) distinct places → (k …)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Tensor) -> Tensor:
        ctx.save_for_backward(there)
        ctx.count = len(x)
        return x.index_select(0, there)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (there,) = ctx.saved_tensors
        return _spread(grad, there, ctx.count), None


def _spread(x: Tensor, there: Tensor, count: int) -> Tensor:
    out: Tensor = _Spread.apply(x, there, count)  # type: ignore[no-untyped-call]
    return out


def _taken(x: Tensor, there: Tensor) -> Tensor:
    out: Tensor = _Taken.apply(x, there)  # type: ignore[no-untyped-call]
    return out


class Group(NamedTuple):
    """Rows of one order among all that go through a layer, one place after the other.

    Attributes:
        rows, places: b and t.
        there: (k) which of the b·t places are there, the others being left out; None where all are.
        bias: (b 1 t t) of attention; None where it is causal.
    """

    rows: int
    places: int
    there: Tensor | None
    bias: Tensor | None

    @property
    def size(self) -> int:
        """Places that are there."""
        return self.rows * self.places if self.there is None else len(self.there)

    def attend(self, turned: Tensor, value: Tensor) -> Tensor:
        """Queries and keys (k 2 h e), values (k h e) → (k h·e)."""
        shape = (self.rows, self.places)
        if self.there is not None:
            turned, value = (_spread(t, self.there, shape[0] * shape[1]) for t in (turned, value))
        query, key = turned.view(*shape, *turned.shape[1:]).permute(2, 0, 3, 1, 4)
        value = value.view(*shape, *value.shape[1:]).transpose(1, 2)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=self.bias, is_causal=self.bias is None)
        seen = seen.transpose(1, 2).flatten(2).flatten(0, 1)
        return seen if self.there is None else _taken(seen, self.there)


class Layer(nn.Module):
    """Self-attention and a gated feed-forward layer (SwiGLU, Shazeer 2020), each with a norm before it and a residual connection; no biases, as in Llama."""

    def __init__(self, width: int, heads: int, ratio: float, dropout: float | Config) -> None:
        super().__init__()
        self.heads, hidden = heads, max(1, int(width * ratio))
        self.attention_norm, self.hidden_norm = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.enter, self.leave = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.gated, self.down = nn.Linear(width, 2 * hidden, bias=False), nn.Linear(hidden, width, bias=False)
        self.drop = Dropout(dropout)

    def queries_keys_values(self, x: Tensor, rotary: Tensor) -> tuple[Tensor, Tensor]:
        """x (… d), rotary (2 … e/2) → queries and keys (… 2 h e), values (… h e)."""
        turned, value = self.enter(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1)).split([2, 1], -3)
        cos, sin = rotary[..., None, None, :].to(turned.dtype)
        first, second = turned.chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1), value.squeeze(-3)

    def after_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """x (… d), attended (… d) → (… d)."""
        x = x + self.drop(self.leave(attended))
        gate, up = self.gated(self.hidden_norm(x)).chunk(2, -1)
        out: Tensor = x + self.drop(self.down(F.silu(gate) * up))
        return out

    def forward(self, x: Tensor, rotary: Tensor, groups: Sequence[Group]) -> Tensor:
        """x (T d), the places of all groups one after the other, rotary (2 T e/2) → (T d). What is no attention knows of no rows."""
        turned, value = self.queries_keys_values(x, rotary)
        sizes = [group.size for group in groups]
        pieces = zip(groups, torch.split(turned, sizes), torch.split(value, sizes), strict=True)
        return self.after_attention(x, torch.cat([group.attend(some, of) for group, some, of in pieces]))

    def cached(self, x: Tensor, rotary: Tensor, cache: KeyValueCache, number: int, start: Tensor, bias: Tensor) -> Tensor:
        """New places from start (b) on alone, without dropout: x (b t d), rotary (2 b t e/2), bias (b 1 t s) → (b t d)."""
        turned, value = self.queries_keys_values(x, rotary)
        query, key = turned.permute(2, 0, 3, 1, 4)
        keys, values = cache.write(number, key, value.transpose(1, 2), start)
        seen = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias)
        return self.after_attention(x, seen.transpose(1, 2).flatten(2))


class SequenceBackbone(nn.Module, ABC):
    """What text and image go through as one sequence (capability ``sequences``), and what the parts of this family ask of it.

    Args:
        width: d.
        vocabulary: v, ids of the tokenizer of its texts.
    """

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.width, self.vocabulary = width, vocabulary
        #: What the texts that go through it are written in: `speak`.
        self.tokenizer: Tokenizer | None = None
        #: What is to be done: they stand between what is read and what is written.
        self.draw, self.read = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(width))

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """ids (b t) → (b t d)."""

    @abstractmethod
    def words(self, hidden: Tensor) -> Tensor:
        """hidden (… d) → logits (… v)."""

    @abstractmethod
    def forward(self, rows: Sequence[Row]) -> list[Tensor]:
        """The hidden states (b t d) of each order's rows, all in one pass; of what is left out they say nothing."""

    @abstractmethod
    def cache(self, like: Row, places: int) -> KeyValueCache:
        """An empty cache of so many places for rows like these."""

    @abstractmethod
    def advance(self, x: Tensor, coordinates: Tensor, cache: KeyValueCache, start: Tensor, mask: Tensor) -> Tensor:
        """Places from start (b) on, which are kept: x (b t d), coordinates (b t 3), mask (b t s) → hidden states (b t d). Without gradients."""

    def speak(self, tokenizer: Tokenizer | None) -> None:
        """Tells it the tokenizer of a part that embeds or writes words by it. Raises `ValueError` where that is not the one that it was told first."""
        assert tokenizer is not None
        if tokenizer.size != self.vocabulary or self.tokenizer not in (None, tokenizer):
            raise ValueError("tokenizer: expected that of the other text part, since the backbone has one table of words for both")
        self.tokenizer = tokenizer

    def task(self, what: str, rows: int) -> Piece:
        """``draw`` or ``read`` as a piece. Nobody takes the vectors themselves, which may lie in shards."""
        x = (self.draw if what == "draw" else self.read).expand(rows, 1, -1)
        return Piece(x, torch.ones(rows, 1, dtype=torch.bool, device=x.device), torch.zeros(1, 3, dtype=torch.long, device=x.device))

    def hidden(self, orders: Sequence[Order]) -> list[Tensor]:
        """The hidden states (b n d) of each order's last piece, all orders in one pass."""
        rows = [joined(order.pieces, order.whole) for order in orders]
        return [taken(x, row.starts[-1], order.pieces[-1].x.shape[1]) for x, row, order in zip(self(rows), rows, orders, strict=True)]

    def begin(self, pieces: Sequence[Piece], whole: int, places: int) -> tuple[Tensor, KeyValueCache, Tensor]:
        """Reads the pieces: the hidden state of the last place of each row (b d), the cache with room for so many further `places`, lengths (b)."""
        row = joined(pieces, whole)
        length, cache = row.mask.sum(1), self.cache(row, row.x.shape[1] + places)
        mask = F.pad(visible(torch.zeros_like(row.mask) if row.whole is None else row.whole), (0, places))
        hidden = self.advance(row.x, row.coordinates, cache, torch.zeros_like(length), mask)
        return taken(hidden, length - 1, 1).squeeze(1), cache, length


class UnifiedBackbone(SequenceBackbone):
    """Layers, and the embedding of texts, which is their head as well."""

    checkpointed = ("layers",)

    def __init__(self, config: BackboneConfig, context: Context) -> None:
        width = context.width
        if width % config.heads:
            raise ValueError(f"heads = {config.heads}: expected a divisor of model.width = {width}")
        vocabulary = next((context.vocabularies[part] for part in ("text_decoder", "text_encoder") if part in context.vocabularies), 0)
        if not vocabulary:
            raise ValueError("it embeds the words of a text: expected a text encoder or a text decoder beside it")
        super().__init__(width, vocabulary)
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.layers = nn.ModuleList(Layer(width, config.heads, config.ratio, config) for _ in range(config.depth))
        self.rotary = Rotary(width // config.heads)
        self.norm = nn.LayerNorm(width, bias=False)

    def _layers(self) -> Iterator[Layer]:
        for layer in self.layers:
            assert isinstance(layer, Layer)
            yield layer

    def embed(self, ids: Tensor) -> Tensor:
        """Of unit variance at first."""
        embedded: Tensor = self.embedding(ids) * self.width**0.5
        return embedded

    def words(self, hidden: Tensor) -> Tensor:
        """The embedding is the head (Press and Wolf 2017)."""
        return F.linear(hidden, self.embedding.weight)

    def forward(self, rows: Sequence[Row]) -> list[Tensor]:
        """Orders of different lengths do not fill each other up. On the CPU the places that are left out of a row cost nothing either; elsewhere counting
        them would have the host wait for the device.
        """
        counted = counts_places(rows[0].x)
        groups = [_group(row, counted) for row in rows]
        x = torch.cat([_there(row.x, group) for row, group in zip(rows, groups, strict=True)])
        rotary = self.rotary(torch.cat([_there(row.coordinates, group) for row, group in zip(rows, groups, strict=True)]))
        for layer in self._layers():
            x = layer(x, rotary, groups)
        found = torch.split(self.norm(x), [group.size for group in groups])
        return [_in_rows(hidden, group) for hidden, group in zip(found, groups, strict=True)]

    def cache(self, like: Row, places: int) -> KeyValueCache:
        turned, _ = next(self._layers()).queries_keys_values(like.x[:, :1], self.rotary(like.coordinates[:, :1]))
        return KeyValueCache.empty(turned[:, :, 1].transpose(1, 2), len(self.layers), places)  # under autocast, of its type

    def advance(self, x: Tensor, coordinates: Tensor, cache: KeyValueCache, start: Tensor, mask: Tensor) -> Tensor:
        bias, rotary = attention_bias(mask, x), self.rotary(coordinates)
        for number, layer in enumerate(self._layers()):
            x = layer.cached(x, rotary, cache, number, start, bias)
        hidden: Tensor = self.norm(x)
        return hidden


def counts_places(x: Tensor) -> bool:
    """Whether the places that are there are counted, so that the others cost nothing: where nobody waits for it."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _group(row: Row, counted: bool) -> Group:
    there = row.mask.flatten().nonzero().squeeze(1) if counted and not bool(row.mask.all()) else None
    bias = None if row.whole is None else attention_bias(visible(row.whole), row.x)
    return Group(len(row.mask), row.mask.shape[1], there, bias)


def _there(x: Tensor, group: Group) -> Tensor:
    """x (b t …) → (k …)."""
    x = x.flatten(0, 1)
    return x if group.there is None else _taken(x, group.there)


def _in_rows(x: Tensor, group: Group) -> Tensor:
    """x (k …) → (b t …)."""
    if group.there is not None:
        x = _spread(x, group.there, group.rows * group.places)
    return x.view(group.rows, group.places, *x.shape[1:])
