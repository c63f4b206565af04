"""The transformer over text and image that both directions share.

Shapes: b batch, t places, d width, h heads, e width of a head, l layers, s places that a cache has, v vocabulary, T places of all rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, Dropout, KeyValueCache, attention_bias
from ibllm_unified.config import BackboneConfig
from ibllm_unified.sequence import Order, Piece, Rotary, joined, taken, visible


class Layer(nn.Module):
    """Self-attention and a gated feed-forward layer (SwiGLU, Shazeer 2020), each with a norm before it and a residual connection; no biases, as in Llama."""

    def __init__(self, width: int, heads: int, ratio: float, dropout: float) -> None:
        super().__init__()
        self.heads, hidden = heads, max(1, int(width * ratio))
        self.attention_norm, self.hidden_norm = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.enter, self.leave = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.gated, self.down = nn.Linear(width, 2 * hidden, bias=False), nn.Linear(hidden, width, bias=False)
        self.drop = Dropout(dropout)

    def queries_keys_values(self, x: Tensor, rotary: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (b t d), rotary (2 b t e/2) → queries, keys and values (b h t e)."""
        found = self.enter(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
        turned, value = found[:, :, :2], found[:, :, 2]
        cos, sin = rotary[:, :, :, None, None].to(x.dtype)
        first, second = turned.chunk(2, -1)
        turned = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
        query, key = turned.unbind(2)
        return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)

    def after_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """x (b t d), attended (b h t e) → (b t d)."""
        x = x + self.drop(self.leave(attended.transpose(1, 2).flatten(2)))
        gate, up = self.gated(self.hidden_norm(x)).chunk(2, -1)
        out: Tensor = x + self.drop(self.down(F.silu(gate) * up))
        return out

    def forward(self, x: Tensor, rotary: Tensor, bias: Tensor | None) -> Tensor:
        """x (b t d), rotary (2 b t e/2), bias (b 1 t t), or None for causal attention → (b t d)."""
        query, key, value = self.queries_keys_values(x, rotary)
        return self.after_attention(x, F.scaled_dot_product_attention(query, key, value, attn_mask=bias, is_causal=bias is None))

    def cached(self, x: Tensor, rotary: Tensor, cache: KeyValueCache, number: int, start: Tensor, bias: Tensor) -> Tensor:
        """The same for places from start (b) on alone, without dropout: bias (b 1 t s)."""
        query, key, value = self.queries_keys_values(x, rotary)
        keys, values = cache.write(number, key, value, start)
        return self.after_attention(x, F.scaled_dot_product_attention(query, keys, values, attn_mask=bias))


class UnifiedBackbone(nn.Module):
    """Layers, the embedding of texts, which is their head as well, and the tokens that name a task."""

    checkpointed = ("layers",)

    def __init__(self, config: BackboneConfig, context: Context) -> None:
        super().__init__()
        self.width = config.width or context.width
        sizes = set(context.vocabularies.values())
        if len(sizes) != 1:
            raise ValueError("one model for both directions has one embedding of words: expected one tokenizer of text encoder and text decoder")
        self.vocabulary = sizes.pop()
        self.embedding = nn.Embedding(self.vocabulary, self.width)
        nn.init.normal_(self.embedding.weight, std=self.width**-0.5)
        #: What is to be done: they stand between what is read and what is written.
        self.draw, self.read = nn.Parameter(torch.randn(self.width)), nn.Parameter(torch.randn(self.width))
        self.layers = nn.ModuleList(Layer(self.width, config.heads, config.ratio, config.dropout) for _ in range(config.depth))
        self.rotary = Rotary(self.width // config.heads)
        self.norm = nn.LayerNorm(self.width, bias=False)

    def _layers(self) -> Iterator[Layer]:
        for layer in self.layers:
            assert isinstance(layer, Layer)
            yield layer

    def embed(self, ids: Tensor) -> Tensor:
        """ids (b t) → (b t d), of unit variance at first."""
        return self.embedding(ids) * self.width**0.5

    def words(self, hidden: Tensor) -> Tensor:
        """hidden (… d) → logits (… v): the embedding is the head (Press and Wolf 2017)."""
        return F.linear(hidden, self.embedding.weight)

    def task(self, token: Tensor, rows: int) -> Piece:
        """`draw` or `read` as a piece."""
        x = token.expand(rows, 1, -1)
        return Piece(x, torch.ones(rows, 1, dtype=torch.bool, device=x.device), torch.zeros(1, 3, dtype=torch.long, device=x.device))

    def forward(self, x: Tensor, coordinates: Tensor, whole: Tensor | None) -> Tensor:
        """x (b t d), coordinates (b t 3), whole (b t) bool or None where all is causal → hidden states (b t d)."""
        bias, rotary = None if whole is None else attention_bias(visible(whole), x), self.rotary(coordinates)
        for layer in self._layers():
            x = layer(x, rotary, bias)
        hidden: Tensor = self.norm(x)
        return hidden

    def hidden(self, orders: Sequence[Order]) -> list[Tensor]:
        """The hidden states (b n d) of each order's last piece, all orders in one pass."""
        rows = [joined(order.pieces, order.whole) for order in orders]
        if len(rows) == 1:
            found = [self(rows[0].x, rows[0].coordinates, rows[0].whole)]
        else:
            longest = max(row.x.shape[1] for row in rows)
            grown = [[F.pad(t, (0, 0, 0, longest - t.shape[1])) for t in (row.x, row.coordinates)] for row in rows]
            causal = [row.mask.new_zeros(row.mask.shape) if row.whole is None else row.whole for row in rows]
            wholes = None if all(row.whole is None for row in rows) else torch.cat([F.pad(w, (0, longest - w.shape[1])) for w in causal])
            found = list(self(torch.cat([x for x, _ in grown]), torch.cat([at for _, at in grown]), wholes).chunk(len(rows)))
        return [taken(x, row.starts[-1], order.pieces[-1].x.shape[1]) for x, row, order in zip(found, rows, orders, strict=True)]

    # One after the other.

    def begin(self, pieces: Sequence[Piece], whole: int, places: int) -> tuple[Tensor, KeyValueCache, Tensor]:
        """Reads the pieces: the hidden state of the last place of each row (b d), the cache for so many further `places`, lengths (b)."""
        row = joined(pieces, whole)
        length, causal = row.mask.sum(1), row.mask.new_zeros(row.mask.shape)
        mask = visible(causal if row.whole is None else row.whole)
        cache = KeyValueCache.empty(self._key(row.x, row.coordinates), len(self.layers), row.x.shape[1] + places)
        mask = F.pad(mask, (0, places))
        hidden = self.advance(row.x, row.coordinates, cache, torch.zeros_like(length), mask)
        return taken(hidden, length - 1, 1).squeeze(1), cache, length

    def _key(self, x: Tensor, coordinates: Tensor) -> Tensor:
        """Keys (b h 1 e), of the type that they have under autocast."""
        return next(self._layers()).queries_keys_values(x[:, :1], self.rotary(coordinates[:, :1]))[1]

    def advance(self, x: Tensor, coordinates: Tensor, cache: KeyValueCache, start: Tensor, mask: Tensor) -> Tensor:
        """Places from start (b) on, which are kept: x (b t d), coordinates (b t 3), mask (b t s) → hidden states (b t d). Without gradients."""
        bias, rotary = attention_bias(mask, x), self.rotary(coordinates)
        for number, layer in enumerate(self._layers()):
            x = layer.cached(x, rotary, cache, number, start, bias)
        hidden: Tensor = self.norm(x)
        return hidden
