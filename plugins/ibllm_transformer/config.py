"""The options of the transformer parts. Torch-free."""

from __future__ import annotations

import attrs

from ibllm_core.options import Config, option


def check_heads(width: int | None, heads: int) -> None:
    """Raises `ValueError` if the heads do not share the width evenly; a width that follows the model is checked when the part is built."""
    if width is not None and width % heads:
        raise ValueError(f"heads = {heads}: expected a divisor of width = {width}")


@attrs.frozen(kw_only=True)
class TransformerTextEncoderConfig(Config):
    """E_x: token embeddings and positions through pre-norm transformer layers."""

    tokenizer: str = option("text", help="the [tokenizers.NAME] table whose tokens it reads")
    width: int | None = option(None, help="d, width of the latent it gives; follows model.width when left out", ge=1)
    depth: int = option(2, help="layers", ge=0)
    heads: int = option(4, help="attention heads", ge=1)
    ratio: float = option(2.0, help="width of a layer's feed-forward part relative to the width", gt=0)
    dropout: float = option(0.0, help="probability that a layer's output number is dropped in training", ge=0, lt=1)
    word_dropout: float = option(0.0, help="probability that a token's embedding is dropped in training", ge=0, lt=1)

    def __attrs_post_init__(self) -> None:
        check_heads(self.width, self.heads)

    def provides(self) -> frozenset[str]:
        return frozenset({"soft_tokens"})


@attrs.frozen(kw_only=True)
class TransformerTextDecoderConfig(Config):
    """D_x: a causal transformer with cross-attention to the latent."""

    tokenizer: str = option("text", help="the [tokenizers.NAME] table whose tokens it writes")
    latent: int | None = option(None, help="width of the latents it reads; follows the image encoder when left out", ge=1)
    width: int | None = option(None, help="width of its own layers; follows model.width when left out", ge=1)
    depth: int = option(2, help="layers", ge=1)
    heads: int = option(4, help="attention heads", ge=1)
    ratio: float = option(2.0, help="width of a layer's feed-forward part relative to the width", gt=0)
    dropout: float = option(0.0, help="probability that a layer's output number is dropped in training", ge=0, lt=1)
    word_dropout: float = option(
        0.0,
        help="probability that a token read is replaced by <unk> in training, so that words are read off the image rather than guessed from the words before",
        ge=0,
        lt=1,
    )

    def __attrs_post_init__(self) -> None:
        check_heads(self.width, self.heads)

    def provides(self) -> frozenset[str]:
        return frozenset({"exact_likelihood", "prefix"})
