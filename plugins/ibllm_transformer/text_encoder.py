"""E_x as a transformer. Shapes: b batch, t tokens, d width."""

from __future__ import annotations

from torch import Tensor, nn

from ibllm.plugin import Backbone, Context, Latent, Rng, TextEncoder, attention_bias, masked_mean, position_embedding, rotary_embedding
from ibllm_transformer.config import TransformerTextEncoderConfig
from ibllm_transformer.layers import EncoderLayer, borrow_backbone


class TransformerTextEncoder(TextEncoder):
    """One latent place a token, which attends to the whole text, or with `causal` to the tokens up to it; `pooled` is their mean."""

    checkpointed = ("layers",)
    #: What follows the layers.
    backbone: Backbone | None = None

    def __init__(self, config: TransformerTextEncoderConfig, context: Context) -> None:
        super().__init__()
        assert context.tokenizer is not None
        self.width, self.config = config.width or context.width, config
        self.causal = config.causal
        self.embedding = nn.Embedding(context.tokenizer.size, self.width)
        places, rotary = context.tokenizer.max_length, config.positions == "rotary"
        self.positions = None if rotary else position_embedding(places, self.width)
        self.layers = nn.ModuleList(EncoderLayer(self.width, config.heads, config.ratio, config) for _ in range(config.depth))
        self.rotary: Tensor | None
        self.register_buffer("rotary", rotary_embedding(places, self.width // config.heads) if rotary else None, persistent=False)
        self.norm = nn.LayerNorm(self.width)
        borrow_backbone(self, config.backbone, context)

    def embed(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.embedding(ids)
        return embedded

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        if self.training and self.config.word_dropout:
            kept = Rng.of_pass(len(mask), mask.device).kept(self.config.word_dropout, mask.shape[1])
            embeddings = embeddings * kept.unsqueeze(-1)
        places = embeddings.shape[1]
        x = embeddings if self.positions is None else embeddings + self.positions[:places]
        rotary = None if self.rotary is None else self.rotary[:, :places]
        # Padding comes last, so causal attention leaves it out without a mask, which the fastest kernels know nothing of.
        attended = None if self.causal else attention_bias(mask, x)
        for layer in self.layers:
            x = layer(x, attended, rotary, causal=self.causal)
        if self.backbone is not None:
            x = self.backbone(x, mask)
        # No reader should find numbers at padding.
        x = self.norm(x) * mask.unsqueeze(-1)
        return Latent(x, mask, masked_mean(x, mask))
