"""A transformer that several parts share. Shapes: b batch, n places, d width."""

from __future__ import annotations

from torch import Tensor, nn

from ibllm.plugin import Backbone, Context, attention_bias
from ibllm_transformer.config import TransformerBackboneConfig
from ibllm_transformer.layers import EncoderLayer


class TransformerBackbone(Backbone):
    """Layers in which every place attends to every other one, whatever they stand for: words of a text, patches of an image (You et al. 2022)."""

    checkpointed = ("layers",)

    def __init__(self, config: TransformerBackboneConfig, context: Context) -> None:
        super().__init__()
        self.width = config.width or context.width
        self.layers = nn.ModuleList(EncoderLayer(self.width, config.heads, config.ratio, config) for _ in range(config.depth))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        bias = attention_bias(mask, tokens)
        for layer in self.layers:
            tokens = layer(tokens, bias)
        return tokens
