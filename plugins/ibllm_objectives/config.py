"""The options of the objectives. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import LossConfig, option, weighs

_DRAWN = frozenset({"text_encoder", "image_decoder", "image_decoder.differentiable_draw", "data.pairs"})


@attrs.frozen(kw_only=True)
class _ImageOptions(LossConfig):
    per: str = option(
        "dimension", help="divide by the c·h·w numbers of an image ('dimension'), or not ('sample')", choices=("dimension", "sample")
    )


@attrs.frozen(kw_only=True)
class ImageNLLConfig(_ImageOptions):
    """−log p(y|x)."""

    kind: str = option(
        "own",
        help="what p is: the image decoder's own, or around the drawn image a Laplace distribution (l1), a Gaussian (l2) "
        "or a learned mixture of logistics over the 256 levels",
        choices=("own", "l1", "l2", "logistic_mixture"),
    )
    scale: float = option(0.1, help="with l1 and l2: scale of the distribution, σ of l2, in units of an image in [−1, 1]", gt=0)
    components: int = option(5, help="with logistic_mixture: logistics a channel of a pixel", ge=1)

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_decoder", "data.pairs"}) if self.kind == "own" else _DRAWN


@attrs.frozen(kw_only=True)
class CycleImageConfig(_ImageOptions):
    """−log p(y | E_x(D_x(E_y(y)))). The two text parts must share a tokenizer."""

    def needs(self) -> frozenset[str]:
        return frozenset({"image_encoder", "text_decoder", "text_encoder", "text_encoder.soft_tokens", "image_decoder", "data.images"})


@attrs.frozen(kw_only=True)
class BackTranslationConfig(LossConfig):
    """What the model itself writes about an image, or draws for a text, is paired with it, and the other half learns from the pair.

    The two text parts must share a tokenizer.
    """

    of: str = option(
        "image",
        help="image: captions are written for images, and the text module learns from them, in nats a dimension; text: images are drawn for texts, "
        "and the image module learns from them, in nats a token",
        choices=("image", "text"),
    )
    temperature: float = option(
        0.0, help="with image: of the captioner; 0 writes the likeliest words, 1 draws them as it believes in them", ge=0
    )

    def needs(self) -> frozenset[str]:
        data = "data.images" if self.of == "image" else "data.captions"
        return frozenset({"image_encoder", "text_decoder", "text_encoder", "image_decoder", data})


@attrs.frozen(kw_only=True)
class DistillConfig(LossConfig):
    """What another text module, the teacher, draws is what the image decoder learns. Its parts are frozen further ones, [model.extra.NAME], of another run."""

    text_encoder: str = option("text_encoder", help="the teacher's text encoder, a [model.extra.NAME]", part="text_encoder")
    image_decoder: str = option("image_decoder", help="the teacher's image decoder, a [model.extra.NAME], of pixels", part="image_decoder")

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_decoder", "data.captions"})


@attrs.frozen(kw_only=True)
class DistillTextConfig(LossConfig):
    """What another image module, the teacher, thinks of each next word is what the text decoder learns. Its parts are frozen further ones,
    [model.extra.NAME], of another run, and have the same vocabulary."""

    image_encoder: str = option("image_encoder", help="the teacher's image encoder, a [model.extra.NAME]", part="image_encoder")
    text_decoder: str = option("text_decoder", help="the teacher's text decoder, a [model.extra.NAME]", part="text_decoder")
    temperature: float = option(1.0, help="softens both distributions: what the teacher thinks of unlikely words counts for more", gt=0)

    def needs(self) -> frozenset[str]:
        return frozenset({"image_encoder", "text_decoder", "data.pairs"})


@attrs.frozen(kw_only=True)
class CycleLatentConfig(LossConfig):
    """The latent read off the drawn image agrees with the caption's that it was drawn from."""

    distance: str = option(
        "cosine", help="of the pooled vectors: 1 − cosine, or the mean squared difference (l2)", choices=("cosine", "l2")
    )

    def needs(self) -> frozenset[str]:
        return _DRAWN | {"image_encoder"}


@attrs.frozen(kw_only=True)
class KLConfig(LossConfig):
    """KL of the image decoder's condition to the standard normal distribution."""

    def needs(self) -> frozenset[str]:
        return _DRAWN | {"image_decoder.conditioning_augmentation"}


@attrs.frozen(kw_only=True)
class ModeSeekingConfig(LossConfig):
    """Two drawings of one caption differ as their noise does."""

    epsilon: float = option(
        1e-5,
        help="ε in 1 / (ratio + ε): the loss's largest value is 1/ε; 1e-5 is the authors', 0.1 is gentler where noise counts little yet",
        gt=0,
    )

    def needs(self) -> frozenset[str]:
        return _DRAWN | {"image_decoder.noise"}


@attrs.frozen(kw_only=True)
class ReconstructionConfig(LossConfig):
    """How much of an image survives the codec."""

    kind: str = option("l2", help="mean absolute (l1) or mean squared (l2) error", choices=("l1", "l2"))

    def needs(self) -> frozenset[str]:
        return frozenset({"image_tokenizer", "data.images"})


@attrs.frozen(kw_only=True)
class PerceptualConfig(LossConfig):
    """A reconstructed or drawn image looks to a feature network like the real one. Unlike a critic, that network must not learn from it, or it would
    see ever less: it was trained before, or is a frozen [model.extra.NAME]."""

    of: str = option(
        "reconstruction", help="the codec's reconstruction, or the drawing of a caption", choices=("reconstruction", "drawing")
    )
    features: str = option(
        "image_encoder",
        help="the image encoder whose latent places are compared; a further one is [model.extra.NAME]",
        part="image_encoder",
    )

    def needs(self) -> frozenset[str]:
        return frozenset({"image_tokenizer", "data.images"}) if self.of == "reconstruction" else _DRAWN


@attrs.frozen(kw_only=True)
class CodecRegularisationConfig(LossConfig):
    """What the codec adds to the reconstruction error. Its options weigh it."""

    def needs(self) -> frozenset[str]:
        return frozenset({"image_tokenizer", "image_tokenizer.regularisation", "data.images"})


@attrs.frozen(kw_only=True)
class _TextOptions(LossConfig):
    per: str = option("token", help="mean over tokens ('token') or over whole texts ('sample')", choices=("token", "sample"))


@attrs.frozen(kw_only=True)
class TextNLLConfig(_TextOptions):
    """−log p(x|y)."""

    def needs(self) -> frozenset[str]:
        return frozenset({"image_encoder", "text_decoder", "data.pairs"})


@attrs.frozen(kw_only=True)
class AnswerNLLConfig(_TextOptions):
    """−log p(answer | y, question)."""

    def needs(self) -> frozenset[str]:
        return frozenset({"image_encoder", "text_decoder", "text_decoder.prefix", "data.questions"})


@attrs.frozen(kw_only=True)
class QuestionNLLConfig(_TextOptions):
    """−log p(question | y)."""

    def needs(self) -> frozenset[str]:
        return frozenset({"image_encoder", "text_decoder", "text_decoder.prefix", "data.questions"})


@attrs.frozen(kw_only=True)
class CycleNLLConfig(_TextOptions):
    """−log p(x | E_y(D_y(E_x(x))))."""

    def needs(self) -> frozenset[str]:
        return _DRAWN | {"image_encoder", "text_decoder"}


@attrs.frozen(kw_only=True)
class JointConfig(LossConfig):
    """L_text + λ·L_image. The terms enter with λ alone; their own weights in the recipe count only where they stand by themselves."""

    text: str = option("image_nll", help="name of the recipe's loss that is L_text, −log p(y|x)")
    image: str = option("text_nll", help="name of the recipe's loss that is L_image, −log p(x|y)")
    lambda_: float = weighs(option(1.0, key="lambda", help="λ", live="training"))

    def __attrs_post_init__(self) -> None:
        if self.text == self.image:
            raise ValueError(f"text = image = {self.text!r}: expected two different losses")

    def terms(self) -> tuple[str, ...]:
        return (self.text, self.image)


@attrs.frozen(kw_only=True)
class _ContrastiveOptions(LossConfig):
    width: int = option(64, help="width of the common space that both pooled latents are projected to", ge=1)

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_encoder", "data.pairs"})


@attrs.frozen(kw_only=True)
class ContrastiveConfig(_ContrastiveOptions):
    """InfoNCE with a learned temperature."""

    scale: float = option(1 / 0.07, help="first value of the learned factor on cosines (1 / temperature)", gt=0)
    largest_scale: float = option(100.0, help="the factor never grows beyond this", gt=0)


@attrs.frozen(kw_only=True)
class ContrastiveSigmoidConfig(_ContrastiveOptions):
    """SigLIP with a learned temperature and bias."""

    scale: float = option(10.0, help="first value of the learned factor on cosines (1 / temperature)", gt=0)
    bias: float = option(-10.0, help="first value of the learned bias; low, since most pairs of a batch do not match")
