"""The options of the LSTM parts. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import Config, PrefixedTextDecoderConfig, option


@attrs.frozen(kw_only=True)
class LSTMTextEncoderConfig(Config):
    """E_x: token embeddings through LSTM layers (Hochreiter and Schmidhuber 1997)."""

    tokenizer: str = option("text", help="the [tokenizers.NAME] table whose tokens it reads")
    width: int | None = option(None, help="d, width of the latent it gives, both directions together; follows model.width", ge=1)
    embed: int | None = option(None, help="width of the token embeddings; follows the part's width", ge=1)
    layers: int = option(2, help="layers", ge=1)
    bidirectional: bool = option(True, help="half of the width reads from the left, half from the right; otherwise all from the left")
    pool: str = option("last", help="the pooled vector: each direction's last state, or the mean over the tokens", choices=("last", "mean"))
    dropout: float = option(0.0, help="probability that a number between the layers is dropped in training", ge=0, lt=1, live="training")

    def __attrs_post_init__(self) -> None:
        check_even(self.width, self.bidirectional)

    def provides(self) -> frozenset[str]:
        return frozenset({"soft_tokens"})


@attrs.frozen(kw_only=True)
class LSTMTextDecoderConfig(PrefixedTextDecoderConfig):
    """D_x: LSTM layers with attention to the latent's places; tokens enter by embeddings."""

    tokenizer: str = option("text", help="the [tokenizers.NAME] table whose tokens it writes")
    latent: int | None = option(None, help="width of the latents it reads; follows the image encoder when left out", ge=1)
    width: int | None = option(None, help="width of its own layers; follows model.width when left out", ge=1)
    embed: int | None = option(None, help="width of the token embeddings; follows the part's width", ge=1)
    layers: int = option(2, help="layers", ge=1)
    attention: str = option(
        "general",
        help="score of a place: general (bilinear; Luong et al. 2015), additive (Bahdanau et al. 2015), or none: the pooled latent alone",
        choices=("general", "additive", "none"),
    )
    dropout: float = option(0.0, help="probability that a number between the layers is dropped in training", ge=0, lt=1, live="training")
    word_dropout: float = option(
        0.0, help="probability that a token read is replaced by <unk> in training (Bowman et al. 2016)", ge=0, lt=1, live="training"
    )


def check_even(width: int | None, bidirectional: bool) -> None:
    """Raises `ValueError` if two directions cannot share the width; a width that follows the model is checked when the part is built."""
    if width is not None and bidirectional and width % 2:
        raise ValueError(f"width = {width}: expected an even number, since two directions share it")
