"""E_x as a bag of words. Shapes: b batch, t tokens, d width."""

from __future__ import annotations

from torch import Tensor, nn

from ibllm.plugin import Context, Latent, Rng, TextEncoder, masked_mean
from ibllm_bag.config import BagTextEncoderConfig


class BagTextEncoder(TextEncoder):
    """A token's latent place is its embedding, whatever stands around it; `pooled` is their mean."""

    def __init__(self, config: BagTextEncoderConfig, context: Context) -> None:
        super().__init__()
        assert context.tokenizer is not None
        self.width, self.config = config.width or context.width, config
        self.embedding = nn.Embedding(context.tokenizer.size, self.width)

    def embed(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.embedding(ids)
        return embedded

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        kept = mask
        if self.training and self.config.word_dropout:
            kept = mask & Rng.of_pass(len(mask), mask.device).kept(self.config.word_dropout, mask.shape[1])
        x = embeddings * kept.unsqueeze(-1)
        return Latent(x, mask, masked_mean(x, kept))
