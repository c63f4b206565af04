"""The options of the bag of words. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import Config, option


@attrs.frozen(kw_only=True)
class BagTextEncoderConfig(Config):
    """E_x: every token's embedding, and their mean. It knows no order: the floor that every other text encoder should beat."""

    tokenizer: str = option("text", help="the [tokenizers.NAME] table whose tokens it reads")
    width: int | None = option(None, help="d, width of the embeddings, which are the latent; follows model.width when left out", ge=1)
    word_dropout: float = option(
        0.0, help="probability that a token's embedding is dropped in training (Iyyer et al. 2015)", ge=0, lt=1, live="training"
    )

    def provides(self) -> frozenset[str]:
        return frozenset({"soft_tokens"})
