"""The options of the transformer parts. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import Config, LossConfig, PrefixedTextDecoderConfig, added, check_heads, option


@attrs.frozen(kw_only=True)
class TransformerBackboneConfig(Config):
    """Transformer layers that parts share, one tower for texts and images."""

    width: int | None = option(None, help="d, width of the tokens it is handed; follows model.width when left out", ge=1)
    depth: int = option(2, help="layers", ge=1)
    heads: int = option(4, help="attention heads", ge=1)
    ratio: float = option(2.0, help="width of a layer's feed-forward part relative to the width", gt=0)
    dropout: float = option(0.0, help="probability that a layer's output number is dropped in training", ge=0, lt=1, live="training")

    def __attrs_post_init__(self) -> None:
        check_heads(self.width, self.heads)

    def provides(self) -> frozenset[str]:
        return frozenset({"token_mixing"})


@attrs.frozen(kw_only=True)
class _BorrowerConfig(Config):
    """What parts say that may share layers."""

    backbone: str = added(
        option("", help="a [model.shared.NAME] whose layers follow its own (which depth = 0 leaves out); none by default", part="backbone")
    )

    def needs(self) -> frozenset[str]:
        return frozenset({f"{self.backbone}.token_mixing"}) if self.backbone else frozenset()


@attrs.frozen(kw_only=True)
class TransformerTextEncoderConfig(_BorrowerConfig):
    """E_x: token embeddings and positions through pre-norm transformer layers."""

    tokenizer: str = option("text", help="the [tokenizers.NAME] table whose tokens it reads")
    width: int | None = option(None, help="d, width of the latent it gives; follows model.width when left out", ge=1)
    depth: int = option(2, help="layers", ge=0)
    heads: int = option(4, help="attention heads", ge=1)
    ratio: float = option(2.0, help="width of a layer's feed-forward part relative to the width", gt=0)
    dropout: float = option(0.0, help="probability that a layer's output number is dropped in training", ge=0, lt=1, live="training")
    word_dropout: float = option(0.0, help="probability that a token's embedding is dropped in training", ge=0, lt=1, live="training")
    positions: str = option("learned", help="a learned vector a place, or rotary position embedding (RoPE)", choices=("learned", "rotary"))
    causal: bool = option(False, help="causal attention: a token's latent place sees that token and those before it, not those after")

    def __attrs_post_init__(self) -> None:
        check_heads(self.width, self.heads)
        if self.positions == "rotary" and not self.depth:
            raise ValueError("positions = 'rotary': expected at least one layer, since rotary positions act in attention")
        if self.causal and self.backbone:
            raise ValueError("causal = True: expected false with a backbone, in which every token sees all others")

    def provides(self) -> frozenset[str]:
        causal = self.causal or not (self.depth or self.backbone)
        return frozenset({"soft_tokens", "causal"}) if causal else frozenset({"soft_tokens"})


@attrs.frozen(kw_only=True)
class TransformerTextDecoderConfig(PrefixedTextDecoderConfig):
    """D_x: a causal transformer with cross-attention to the latent."""

    tokenizer: str = option("text", help="the [tokenizers.NAME] table whose tokens it writes")
    latent: int | None = option(None, help="width of the latents it reads; follows the image encoder when left out", ge=1)
    width: int | None = option(None, help="width of its own layers; follows model.width when left out", ge=1)
    depth: int = option(2, help="layers", ge=1)
    heads: int = option(4, help="attention heads", ge=1)
    ratio: float = option(2.0, help="width of a layer's feed-forward part relative to the width", gt=0)
    dropout: float = option(0.0, help="probability that a layer's output number is dropped in training", ge=0, lt=1, live="training")
    word_dropout: float = option(
        0.0,
        help="probability that a token read is replaced by <unk> in training, so that words are read off the image rather than guessed from the words before",
        ge=0,
        lt=1,
        live="training",
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        check_heads(self.width, self.heads)


@attrs.frozen(kw_only=True)
class ViTImageEncoderConfig(_BorrowerConfig):
    """E_y: patches of the image through pre-norm transformer layers."""

    width: int | None = option(None, help="d, width of the latent it gives; follows model.width when left out", ge=1)
    patch: int = option(8, help="side of a patch in pixels; must divide the image's height and width", ge=1)
    depth: int = option(4, help="layers", ge=0)
    heads: int = option(4, help="attention heads", ge=1)
    ratio: float = option(2.0, help="width of a layer's feed-forward part relative to the width", gt=0)
    dropout: float = option(0.0, help="probability that a layer's output number is dropped in training", ge=0, lt=1, live="training")

    def __attrs_post_init__(self) -> None:
        check_heads(self.width, self.heads)


@attrs.frozen(kw_only=True)
class _TokenOptions(Config):
    """What the decoders over image tokens share."""

    latent: int | None = option(None, help="width of the latents it reads; follows the text encoder when left out", ge=1)
    width: int | None = option(None, help="width of its own layers; follows model.width when left out", ge=1)
    depth: int = option(4, help="layers", ge=1)
    heads: int = option(4, help="attention heads", ge=1)
    ratio: float = option(4.0, help="width of a layer's feed-forward part relative to the width", gt=0)
    dropout: float = option(0.0, help="probability that a layer's output number is dropped in training", ge=0, lt=1, live="training")
    null: float = option(
        0.1,
        help="condition dropout: probability that the text is hidden from an image in training, for classifier-free guidance",
        ge=0,
        lt=1,
        live="training",
    )
    guidance: float = option(3.0, help="s of null + (cond − null)·s when drawing; 1 is the model's own p(y|x)", ge=0, live=True)
    temperature: float = option(1.0, help="of the tokens drawn; 0 takes the likeliest", ge=0, live=True)
    factored: bool = option(
        True,
        help="where the image tokenizer's ids are made of digits (fsq), read and predict the digits: their combinations need not have been seen "
        "in training; false for one vector and one softmax over all ids",
    )

    def __attrs_post_init__(self) -> None:
        check_heads(self.width, self.heads)
        if not self.null and self.guidance != 1:
            raise ValueError(
                f"guidance = {self.guidance}: expected 1 where null = 0, for what is drawn without the text is then never trained"
            )

    def needs(self) -> frozenset[str]:
        return frozenset({"image_tokenizer", "image_tokenizer.tokens"})


@attrs.frozen(kw_only=True)
class VQTransformerConfig(_TokenOptions):
    """D_y: one causal transformer over the latent's places and then the image's tokens."""

    top_p: float = option(
        1.0, help="draw among the likeliest tokens that have this much probability together (nucleus)", gt=0, le=1, live=True
    )
    caption: bool = option(False, help="the latent's places also predict the text's next token, as in DALL-E (loss caption_image_nll)")

    def needs(self) -> frozenset[str]:
        return super().needs() | ({"text_encoder"} if self.caption else set())

    def provides(self) -> frozenset[str]:
        found = {"image_tokens", "exact_likelihood"}
        return frozenset(found | ({"noise"} if self.temperature else set()) | ({"caption_likelihood"} if self.caption else set()))


@attrs.frozen(kw_only=True)
class MaskGITConfig(_TokenOptions):
    """D_y: a bidirectional transformer that fills in masked image tokens, many at once."""

    steps: int = option(8, help="passes in which an image is drawn", ge=1, live=True)
    choice: float = option(
        4.5, help="first temperature of the noise on the confidences that say which tokens stay; it falls to 0", ge=0, live=True
    )

    def provides(self) -> frozenset[str]:
        found = {"image_tokens", "likelihood_bound"}
        return frozenset(found | ({"noise"} if self.temperature or self.choice else set()))


@attrs.frozen(kw_only=True)
class CaptionImageNLLConfig(LossConfig):
    """−log p(x) − w·log p(y|x) of one sequence, a token each."""

    image_weight: float = option(7.0, help="w, weight of the image's tokens relative to the text's", ge=0)

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "text_encoder.causal", "image_decoder", "image_decoder.caption_likelihood", "image_tokenizer"})
