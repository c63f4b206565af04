"""E_x as a transformer. Shapes: b batch, t tokens, d width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibllm.plugin import Context, Latent, TextEncoder, masked_mean
from ibllm_transformer.config import TransformerTextEncoderConfig
from ibllm_transformer.layers import EncoderLayer, looking_back, positions, rotation


class TransformerTextEncoder(TextEncoder):
    """Every token's latent place sees the whole text, or with `causal` what comes before it; `pooled` is their mean."""

    def __init__(self, config: TransformerTextEncoderConfig, context: Context) -> None:
        super().__init__()
        assert context.tokenizer is not None
        self.width = config.width or context.width
        self.word_dropout, self.causal = config.word_dropout, config.causal
        self.embedding = nn.Embedding(context.tokenizer.size, self.width)
        places, rotary = context.tokenizer.max_length, config.positions == "rotary"
        self.positions = None if rotary else positions(places, self.width)
        self.layers = nn.ModuleList(EncoderLayer(self.width, config.heads, config.ratio, config.dropout) for _ in range(config.depth))
        self.turn: Tensor | None
        self.register_buffer("turn", rotation(places, self.width // config.heads) if rotary else None, persistent=False)
        self.norm = nn.LayerNorm(self.width)

    def embed(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.embedding(ids)
        return embedded

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        if self.training and self.word_dropout:
            kept = torch.rand(mask.shape, device=mask.device) >= self.word_dropout
            embeddings = embeddings * kept.unsqueeze(-1)
        places = embeddings.shape[1]
        x = embeddings if self.positions is None else embeddings + self.positions[:places]
        turn = None if self.turn is None else self.turn[:, :places]
        seen = looking_back(mask) if self.causal else mask
        for layer in self.layers:
            x = layer(x, seen, turn)
        # Nobody should see numbers at the places that padding holds.
        x = self.norm(x) * mask.unsqueeze(-1)
        return Latent(x, mask, masked_mean(x, mask))
