"""The options of the unified parts. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import AdaptingConfig, Config, Figure, LossConfig, MetricConfig, PixelDecoderConfig, option

#: What a backbone of this family can do, whichever it is.
SEQUENCES = "sequences"


def _backbone() -> str:
    declared: str = option(help="the [model.shared.NAME] whose layers it goes through", part="backbone")
    return declared


@attrs.frozen(kw_only=True)
class BackboneConfig(Config):
    """The transformer over text and image that both directions share. Its width is model.width."""

    depth: int = option(6, help="layers", ge=1)
    heads: int = option(4, help="attention heads, each of a width that 8 divides", ge=1)
    ratio: float = option(2.0, help="width of a layer's gated feed-forward part relative to the width", gt=0)
    dropout: float = option(0.0, help="probability that a layer's output number is dropped in training", ge=0, lt=1, live="training")

    def provides(self) -> frozenset[str]:
        return frozenset({SEQUENCES})


@attrs.frozen(kw_only=True)
class PretrainedBackboneConfig(AdaptingConfig):
    """A causal language model of `transformers` (Llama, Qwen, GPT-2, …) as the layers. Needs ``pip install "ibllm[pretrained]"``.

    The model is that of its tokenizer's table, which says ``use = "pretrained"`` and where the model is. model.width is the model's.
    """

    tokenizer: str = option("text", help="the [tokenizers.NAME] table, of use pretrained, whose tokens and whose model it takes")

    def provides(self) -> frozenset[str]:
        return frozenset({SEQUENCES})


@attrs.frozen(kw_only=True)
class _BorrowerConfig(Config):
    """What the parts that go through a backbone share."""

    backbone: str = _backbone()

    def needs(self) -> frozenset[str]:
        return frozenset({f"{self.backbone}.{SEQUENCES}"})


@attrs.frozen(kw_only=True)
class UnifiedTextEncoderConfig(_BorrowerConfig):
    """E_x: the backbone's embedding of the text; its layers read it where the image is drawn."""

    tokenizer: str = option("text", help="the [tokenizers.NAME] table whose tokens it reads; the text decoder's as well")

    def provides(self) -> frozenset[str]:
        return frozenset({"soft_tokens", "causal"})


@attrs.frozen(kw_only=True)
class UnifiedImageEncoderConfig(_BorrowerConfig):
    """E_y: patches of the image, embedded; the backbone's layers read them where the text is written."""

    patch: int = option(4, help="side of a patch in pixels; must divide the image's height and width", ge=1)
    channels: tuple[int, ...] = option(
        (),
        help="channels of 3×3 convolutions before the patches are taken, each but the first halving height and width; with none a patch enters as it is",
        ge=1,
    )

    factored: bool = option(False, help="read forms off the local contrast, which has no colour, and colours off each place's mean")

    def __attrs_post_init__(self) -> None:
        stride = 2 ** max(len(self.channels) - 1, 0)
        if self.patch % stride:
            raise ValueError(
                f"patch = {self.patch}: expected a multiple of {stride}, by which {len(self.channels)} convolutions divide height and width"
            )


@attrs.frozen(kw_only=True)
class UnifiedTextDecoderConfig(_BorrowerConfig):
    """D_x: the image, a token that says "read", and the text, in one sequence."""

    tokenizer: str = option("text", help="the [tokenizers.NAME] table whose tokens it writes; the text encoder's as well")
    latent: int | None = option(None, help="width of the latents it reads; follows the image encoder when left out", ge=1)
    word_dropout: float = option(
        0.0,
        help="probability that a token read is replaced by <unk> in training, so that words are read off the image rather than guessed from the words before",
        ge=0,
        lt=1,
        live="training",
    )

    def provides(self) -> frozenset[str]:
        return frozenset({"exact_likelihood", "prefix", SEQUENCES})


@attrs.frozen(kw_only=True)
class UnifiedImageDecoderConfig(PixelDecoderConfig):
    """D_y: the text, a token that says "draw", and the image, in one sequence; three ways to write the image."""

    backbone: str = _backbone()
    writes: str = option(
        "autoregressive",
        help="how the image is written: 'autoregressive', a codec's tokens one after the other (Chameleon); 'masked', many tokens at once, the surest first "
        "(Show-o); 'flow', continuous patches along a rectified flow (Transfusion)",
        choices=("autoregressive", "masked", "flow"),
    )
    latent: int | None = option(None, help="width of the latents it reads; follows the text encoder when left out", ge=1)
    null: float = option(
        0.0,
        help="condition dropout: probability that the text is left out before an image in training, for classifier-free guidance",
        ge=0,
        lt=1,
        live="training",
    )
    guidance: float = option(1.0, help="s of null + (cond − null)·s when drawing; 1 is the model's own p(y|x)", ge=0, live=True)
    temperature: float = option(1.0, help="of the tokens drawn; 0 takes the likeliest", ge=0, live=True)
    top_p: float = option(
        1.0,
        help="'autoregressive': draw among the likeliest tokens that have this much probability together (nucleus)",
        gt=0,
        le=1,
        live=True,
    )
    token_dropout: float = option(
        0.0,
        help="'autoregressive': probability that an image token read is hidden in training, so that the image is written after the text rather than "
        "guessed from the tokens before",
        ge=0,
        lt=1,
        live="training",
    )
    factored: bool = option(
        True,
        help="where the codec's ids are made of digits (fsq), read and predict the digits: their combinations need not have been seen in training; "
        "false for one vector and one softmax over all ids",
    )
    steps: int = option(8, help="'masked', 'flow': passes in which an image is drawn", ge=1, live=True)
    choice: float = option(
        4.5, help="'masked': first temperature of the noise on the confidences that say which tokens stay; it falls to 0", ge=0, live=True
    )
    patch: int = option(4, help="'flow': side of a patch in pixels, or in places of the latents; must divide height and width", ge=1)
    times_mean: float = option(
        -0.8,
        help="'flow': training draws t as the sigmoid of a normal number of this mean; below 0, times near the noise, where the text decides what is drawn, "
        "are drawn more often",
    )
    times_scale: float = option(1.0, help="'flow': standard deviation of that number", gt=0)
    noise_scale: float = option(
        2.0,
        help="'flow': standard deviation of the noise at t = 0, in units of an image in [−1, 1], or of a codec's latents, whose own is about 1",
        gt=0,
    )
    solver: str = option(
        "euler", help="'flow': how drawing integrates; 'heun' costs two passes a step", choices=("euler", "heun"), live=True
    )

    def __attrs_post_init__(self) -> None:
        if self.guidance != 1 and not self.null:
            raise ValueError(
                f"guidance = {self.guidance:g}: expected 1 where null = 0, for what is drawn without the text is then never trained"
            )
        if self.works_on == "latents" and self.writes != "flow":
            raise ValueError(f"works_on = 'latents': expected writes = 'flow', since '{self.writes}' writes a codec's tokens")

    def needs(self) -> frozenset[str]:
        own = {f"{self.backbone}.{SEQUENCES}"}
        return frozenset(own | (super().needs() if self.writes == "flow" else {"image_tokenizer", "image_tokenizer.tokens"}))

    def provides(self) -> frozenset[str]:
        own = {SEQUENCES, "exact_likelihood" if self.writes == "autoregressive" else "likelihood_bound"}
        if self.writes == "flow":
            return frozenset(own | super().provides() | {"noise"})
        draws = self.temperature or (self.writes == "masked" and self.choice)
        return frozenset(own | {"image_tokens"} | ({"noise"} if draws else set()))


@attrs.frozen(kw_only=True)
class UnifiedConfig(LossConfig):
    """−w·log p(y|x) − w'·log p(x|y), both orders of text and image in one pass through the backbone."""

    image_weight: float = option(1.0, help="w, weight of an image's nats", ge=0)
    text_weight: float = option(1.0, help="w', weight of a text's nats", ge=0)

    def needs(self) -> frozenset[str]:
        parts = {"text_encoder", "image_decoder", "image_encoder", "text_decoder"}
        return frozenset(parts | {f"image_decoder.{SEQUENCES}", f"text_decoder.{SEQUENCES}"})


@attrs.frozen(kw_only=True)
class TextPerplexityConfig(MetricConfig):
    """What the backbone knows of texts by themselves, without an image."""

    backbone: str = option("lm", help="the [model.shared.NAME] that is asked", part="backbone")
    texts: str = option("", help="a file with a text a line; the split's captions when left out", path="file")
    before: bool = option(False, help="of unified_pretrained: also what the model in its folder says, as it was before training")

    def figures(self) -> tuple[Figure, ...]:
        now = (
            "Perplexity a token of the texts to the layers by themselves, no image before them: exp of the mean of −log p, every token after the "
            "beginning counted."
        )
        found = [Figure("text_perplexity", "perplexity of texts", meaning=now, better="lower")]
        if self.before:
            then = (
                "The same of the pretrained model as it lies in its folder, by the library's own forward pass: what training took or brought is the "
                "difference."
            )
            found.append(Figure("text_perplexity_before", "perplexity of texts before training", meaning=then, better="lower"))
        return tuple(found)

    def needs(self) -> frozenset[str]:
        return frozenset({f"{self.backbone}.{SEQUENCES}"})
