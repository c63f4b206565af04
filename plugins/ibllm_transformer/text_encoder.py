"""E_x as a transformer. Shapes: b batch, t tokens, d width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Latent, masked_mean
from ibllm_core.interfaces.text import TextEncoder
from ibllm_transformer.config import TransformerTextEncoderConfig
from ibllm_transformer.layers import Attention, feed_forward, positions


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward part, each behind a norm and beside a residual (pre-norm, Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int, ratio: float, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.hidden_norm, self.hidden = nn.LayerNorm(width), feed_forward(width, ratio)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (b t d), mask (b t) → (b t d)."""
        normed = self.attention_norm(x)
        x = x + self.drop(self.attention(normed, *self.attention.keys_values(normed), mask))
        return x + self.drop(self.hidden(self.hidden_norm(x)))


class TransformerTextEncoder(TextEncoder):
    """Every token's latent place sees the whole text; `pooled` is their mean."""

    def __init__(self, config: TransformerTextEncoderConfig, context: Context) -> None:
        super().__init__()
        assert context.tokenizer is not None
        self.width = config.width or context.width
        self.word_dropout = config.word_dropout
        self.embedding = nn.Embedding(context.tokenizer.size, self.width)
        self.positions = positions(context.tokenizer.max_length, self.width)
        self.layers = nn.ModuleList(EncoderLayer(self.width, config.heads, config.ratio, config.dropout) for _ in range(config.depth))
        self.norm = nn.LayerNorm(self.width)

    def embed(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.embedding(ids)
        return embedded

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        if self.training and self.word_dropout:
            kept = torch.rand(mask.shape, device=mask.device) >= self.word_dropout
            embeddings = embeddings * kept.unsqueeze(-1)
        x = embeddings + self.positions[: embeddings.shape[1]]
        for layer in self.layers:
            x = layer(x, mask)
        # Nobody should see numbers at the places that padding holds.
        x = self.norm(x) * mask.unsqueeze(-1)
        return Latent(x, mask, masked_mean(x, mask))
