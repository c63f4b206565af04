"""E_x as a 1-D convolutional network. Shapes: b batch, t tokens, e embedding width, d latent width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, Dropout, Latent, TextEncoder, masked_mean
from ibllm_cnn.config import CNNTextEncoderConfig


class ConvLayer(nn.Module):
    """A residual layer: norm, dilated convolution over the tokens, gated linear units or GELU, projection (Gehring et al. 2017, section 3.2)."""

    def __init__(self, width: int, config: CNNTextEncoderConfig, dilation: int) -> None:
        super().__init__()
        self.gated = config.activation == "gated"
        self.norm = nn.LayerNorm(width)
        out = 2 * width if self.gated else width
        self.convolution = nn.Conv1d(width, out, config.kernel, padding=config.kernel // 2 * dilation, dilation=dilation)
        self.out = nn.Linear(width, width)
        self.drop = Dropout(config)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (b t d), mask (b t 1) → (b t d)."""
        # Zeros at padding are what the convolution sees beyond the ends of a text, so padding is no different from an end.
        seen = self.convolution((self.norm(x) * mask).transpose(1, 2)).transpose(1, 2)
        x = x + self.drop(self.out(F.glu(seen, -1) if self.gated else F.gelu(seen)))
        return x


class CNNTextEncoder(TextEncoder):
    """Every token's latent place sees its neighbours; order enters by the convolutions alone, so there are no positions."""

    checkpointed = ("layers",)

    def __init__(self, config: CNNTextEncoderConfig, context: Context) -> None:
        super().__init__()
        assert context.tokenizer is not None
        self.width, self.pool = config.width or context.width, config.pool
        embed = config.embed or self.width
        self.embedding = nn.Embedding(context.tokenizer.size, embed)
        self.enter = nn.Linear(embed, self.width) if embed != self.width else nn.Identity()
        self.layers = nn.ModuleList(ConvLayer(self.width, config, dilation) for dilation in config.dilations)
        self.norm = nn.LayerNorm(self.width)

    def embed(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.embedding(ids)
        return embedded

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        kept = mask.unsqueeze(-1)
        x = self.enter(embeddings)
        for layer in self.layers:
            x = layer(x, kept)
        x = self.norm(x) * kept
        pooled = masked_mean(x, mask) if self.pool == "mean" else x.masked_fill(~kept, torch.finfo(x.dtype).min).amax(1)
        return Latent(x, mask, pooled)
