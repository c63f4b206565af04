"""The options of the adversarial losses. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import LossConfig, added, option

_DRAWN = frozenset({"text_encoder", "image_decoder", "image_decoder.differentiable_draw", "discriminator", "data.pairs"})
_RECONSTRUCTED = frozenset({"image_tokenizer", "discriminator", "data.images"})


@attrs.frozen(kw_only=True)
class _JudgedOptions(LossConfig):
    of: str = added(
        option(
            "drawing",
            help="what is judged: the image decoder's drawings of captions, or the codec's reconstructions of images, without text",
            choices=("drawing", "reconstruction"),
        )
    )

    def needs(self) -> frozenset[str]:
        return _RECONSTRUCTED if self.of == "reconstruction" else _DRAWN


@attrs.frozen(kw_only=True)
class AugmentedOptions(_JudgedOptions):
    """How a critic is shown images, real and generated ones."""

    augment: tuple[str, ...] = added(
        option(
            (),
            help="differentiable operations on all images that the critic sees (DiffAugment): colours, a shift, a square cut out; one that changes "
            "what captions tell (colours, places) teaches the critic to overlook it",
            choices=("color", "translation", "cutout"),
        )
    )
    augment_probability: float | None = added(
        option(
            None, help="of each operation for each image; where it adapts, its first value. 1 when left out, 0 where it adapts", ge=0, le=1
        )
    )
    augment_target: float = added(
        option(
            0.0,
            help="the probability adapts (ADA), so that the mean sign of the critic's scores of real images is this much; 0.6 in the paper, 0 for a fixed one",
            ge=0,
            lt=1,
        )
    )
    augment_images: int = added(option(500_000, help="images in which an adaptive probability can go from 0 to 1", ge=1))


@attrs.frozen(kw_only=True)
class _AdversarialOptions(AugmentedOptions):
    mismatched: float

    def __attrs_post_init__(self) -> None:
        if not self.augment and (self.augment_target or self.augment_probability is not None):
            raise ValueError('augment = []: expected operations, ["translation", "cutout"] say, where they have a probability or a target')
        if self.of == "reconstruction" and self.mismatched:
            raise ValueError(f'mismatched = {self.mismatched:g}: expected 0 where of = "reconstruction", since no caption goes with one')

    def players(self) -> tuple[str, ...]:
        return ("model", "critic")


@attrs.frozen(kw_only=True)
class RelativisticConfig(_AdversarialOptions):
    """Relativistic pairing."""

    mismatched: float = option(
        0.0, help="weight of a second term for the critic: the real image with its own caption against it with another's", ge=0
    )


@attrs.frozen(kw_only=True)
class _UnpairedOptions(_AdversarialOptions):
    mismatched: float = option(
        0.0,
        help="share of what the critic must reject that is the real image with another's caption; the generated image has the rest",
        ge=0,
        le=1,
    )


@attrs.frozen(kw_only=True)
class HingeConfig(_UnpairedOptions):
    """The hinge loss; `mismatched = 0.5` is DF-GAN's."""


@attrs.frozen(kw_only=True)
class NonSaturatingConfig(_UnpairedOptions):
    """The logistic loss with the non-saturating generator; `mismatched = 0.5` is GAN-CLS."""


@attrs.frozen(kw_only=True)
class WGANGPConfig(_UnpairedOptions):
    """The Wasserstein loss with its gradient penalty, which is part of it: without one the critic's scores grow without bound."""

    penalty: float = option(
        10.0, help="λ on (‖∇‖ − 1)² at images between real and generated ones; 0 leaves the penalty out (an ablation)", ge=0
    )

    def needs(self) -> frozenset[str]:
        return super().needs() | ({"discriminator.second_order"} if self.penalty else set())


@attrs.frozen(kw_only=True)
class AdaptiveWeightConfig(LossConfig):
    """A reconstruction, and an adversarial loss weighed so that both pull equally at the decoder's last layer. It takes the place of both in a stage."""

    of: str = option("adversarial", help="name of the recipe's loss that is weighed")
    against: str = option("image_nll", help="name of the recipe's loss that it is weighed against")
    part: str = option("image_decoder", help="the part whose last layer is looked at: the codec where reconstructions are judged")
    layer: str = option("", help="name of its weight (doubles.2.weight); empty for the last one with two axes or more")
    limit: float = option(1e4, help="largest weight", gt=0)
    scale: float = option(1.0, help="factor on the weight; 0.8 in the code of VQGAN", ge=0)

    def __attrs_post_init__(self) -> None:
        if self.of == self.against:
            raise ValueError(f"of = against = {self.of!r}: expected two different losses")

    def terms(self) -> tuple[str, ...]:
        return (self.of, self.against)

    def needs(self) -> frozenset[str]:
        return frozenset({self.part, "discriminator"})

    def players(self) -> tuple[str, ...]:
        return ("model", "critic")


@attrs.frozen(kw_only=True)
class FeatureMatchingConfig(_JudgedOptions):
    """The generated image looks to the critic like the real one, layer by layer; trains the model alone."""

    match: str = option(
        "image",
        help="each generated image with its own real one, by L1 ('image'), or the batch's means, squared ('mean')",
        choices=("image", "mean"),
    )

    def needs(self) -> frozenset[str]:
        return super().needs() | {"discriminator.features"}


@attrs.frozen(kw_only=True)
class GradientPenaltyConfig(_JudgedOptions):
    """R1 + R2."""

    gamma: float = option(1.0, help="γ; R3GAN uses 0.05 for 32×32 photographs and up to 150 for 256×256 faces", ge=0)
    at: tuple[str, ...] = option(
        ("real", "generated"), help="where: at real images (R1), at generated ones (R2)", choices=("real", "generated")
    )
    by: str = option("image", help="gradient by the image, or by image and latent together", choices=("image", "image+latent"))

    def __attrs_post_init__(self) -> None:
        if not self.at or len(set(self.at)) < len(self.at):
            raise ValueError(f"at = {list(self.at)!r}: expected 'real', 'generated' or both, each once")

    def players(self) -> tuple[str, ...]:
        return ("critic",)

    def needs(self) -> frozenset[str]:
        drawn = frozenset({"image_tokenizer", "image_decoder", "image_decoder.differentiable_draw"})
        return (super().needs() - (frozenset() if "generated" in self.at else drawn)) | {"discriminator.second_order"}


@attrs.frozen(kw_only=True)
class MatchingAwarePenaltyConfig(LossConfig):
    """DF-GAN's penalty."""

    scale: float = option(2.0, help="k, the factor", ge=0)
    exponent: float = option(6.0, help="p, the power of the gradient's norm", ge=2)
    by: tuple[str, ...] = option(
        ("tokens", "pooled"),
        help="forms of the latent that the gradient is taken by, beside the image; one that the critic does not read counts nothing, "
        "so that a critic of the pooled vector alone has DF-GAN's own penalty",
        choices=("tokens", "pooled"),
    )

    def __attrs_post_init__(self) -> None:
        if not self.by or len(set(self.by)) < len(self.by):
            raise ValueError(f"by = {list(self.by)!r}: expected 'tokens', 'pooled' or both, each once")

    def players(self) -> tuple[str, ...]:
        return ("critic",)

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "discriminator", "discriminator.second_order", "data.pairs"})
