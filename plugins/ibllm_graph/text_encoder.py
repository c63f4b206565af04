"""E_x that looks up what it reads. Shapes: b batch, t tokens, e embedding width of the other encoder, m facts of a token, k their width, d latent width."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ibllm.plugin import Attention, Context, Dropout, FeedForward, Latent, TextEncoder, attention_bias, borrow, masked_mean
from ibllm_graph.backbone import KnowledgeGraph
from ibllm_graph.config import KnowledgeTextEncoderConfig


class KnowledgeTextEncoder(TextEncoder):
    """Another text encoder's latent, each place of which attends to what the graph says of the text's words (pre-norm, as a transformer's layer).

    A token's embedding is the other encoder's, and beside it what the graph hands over for it, with a number for each whether it is there. So a
    mixture of tokens has a mixture of facts, weighted as the tokens are, and gradients reach both. `pooled` is the mean over the places.
    """

    reader: TextEncoder
    facts: KnowledgeGraph

    def __init__(self, config: KnowledgeTextEncoderConfig, context: Context) -> None:
        super().__init__()
        lacking = [name for name in (config.reads, config.graph) if name not in context.shared]
        if lacking:
            raise ValueError(f"{lacking[0]} is no table [model.shared.{lacking[0]}]: expected one, with kind for a text encoder")
        reader, facts = (context.shared[name] for name in (config.reads, config.graph))
        borrow(self, reader=reader, facts=facts)
        self.width, self.join = config.width or context.width, config.join
        if self.reader.width != self.width:
            raise ValueError(f"width = {self.width}: expected {self.reader.width}, the width of model.shared.{config.reads}")
        if self.facts.tokenizer is not context.tokenizer:
            raise ValueError(f"model.shared.{config.graph}.tokenizer: expected {config.tokenizer!r}, whose tokens are read")
        #: A vector for each kind of fact, from either side, and one for the entity itself.
        self.kinds = nn.Embedding(self.facts.kinds, self.facts.width)
        self.project = nn.Linear(self.facts.width, self.width)
        self.nothing = nn.Parameter(torch.randn(self.width) * 0.5)
        self.norm, self.memory_norm = nn.LayerNorm(self.width), nn.LayerNorm(self.width)
        self.attention = Attention(self.width, config.heads)
        self.feed = nn.Sequential(nn.LayerNorm(self.width), FeedForward(self.width, config.ratio))
        self.dropout = Dropout(config.dropout)

    def embed(self, ids: Tensor) -> Tensor:
        found, kinds, there = self.facts.facts(ids)
        found, read = found + self.kinds(kinds) * there.unsqueeze(-1), self.reader.embed(ids)
        return torch.cat([read, found.flatten(2).to(read.dtype), there.to(read.dtype)], -1)

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        slots, wide = self.facts.slots, self.facts.slots * self.facts.width
        own, found, weights = torch.split(embeddings, [embeddings.shape[-1] - wide - slots, wide, slots], -1)
        z = self.reader.encode(own, mask)
        memory = self.project(found.reshape(*found.shape[:2], slots, -1)).flatten(1, 2)
        weights = (weights * mask.unsqueeze(-1)).flatten(1)
        x = z.tokens + self.dropout(self._looked_up(z.tokens, memory, weights, mask))
        x = (x + self.dropout(cast(Tensor, self.feed(x)))) * mask.unsqueeze(-1)
        return Latent(x, mask, masked_mean(x, mask))

    def _looked_up(self, x: Tensor, memory: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
        """x (b t d), memory (b s d) with weights (b s) in [0, 1] → (b t d); a fact of half a token has half the attention."""
        queries = self.norm(x)
        kept = weights > 0
        memory = self.memory_norm(torch.cat([self.nothing.expand(len(x), 1, -1).to(memory.dtype), memory], 1))
        there = torch.cat([torch.ones_like(kept[:, :1]), kept], 1)
        scale = torch.where(kept, weights.clamp(min=1e-6), 1.0).log()
        scale = torch.nn.functional.pad(scale, (1, 0))
        if self.join == "tokens":
            memory, there = torch.cat([queries, memory], 1), torch.cat([mask, there], 1)
            scale = torch.nn.functional.pad(scale, (x.shape[1], 0))
        bias = attention_bias(there, x)
        out: Tensor = self.attention(queries, *self.attention.keys_values(memory), bias + scale[:, None, None].to(bias.dtype))
        return out
