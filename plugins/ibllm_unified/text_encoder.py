"""E_x: the text as the backbone's layers read it. Shapes: b batch, t tokens, d width."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from ibllm.plugin import Context, Latent, TextEncoder, borrow, masked_mean
from ibllm_unified.backbone import SequenceBackbone
from ibllm_unified.config import UnifiedTextEncoderConfig


class UnifiedTextEncoder(TextEncoder):
    """One latent place a token, its embedding; `pooled` is their mean. It has no weights of its own."""

    backbone: SequenceBackbone

    def __init__(self, config: UnifiedTextEncoderConfig, context: Context) -> None:
        super().__init__()
        borrow(self, backbone=cast(SequenceBackbone, context.shared[config.backbone]))
        self.backbone.speak(context.tokenizer)
        self.width = self.backbone.width

    def embed(self, ids: Tensor) -> Tensor:
        return self.backbone.embed(ids)

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        x = embeddings * mask.unsqueeze(-1)
        return Latent(x, mask, masked_mean(x, mask))
