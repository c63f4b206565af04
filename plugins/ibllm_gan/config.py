"""The options of the adversarial parts. Torch-free."""

from __future__ import annotations

from typing import Any

import attrs

from ibllm.plugin import Config, PixelDecoderConfig, added, check_groups, check_heads, option


def _latent() -> Any:
    return option(None, help="width of the latents it reads; follows the text encoder when left out", ge=1)


def _stages(default: tuple[int, ...], help: str) -> Any:
    return option(default, help=help, ge=1)


def _check_stages(channels: tuple[int, ...], least: int = 1) -> None:
    if len(channels) < least:
        raise ValueError(f"channels = {list(channels)!r}: expected at least {'one stage' if least == 1 else f'{least} stages'}")


@attrs.frozen(kw_only=True)
class OneShotOptions(PixelDecoderConfig):
    """Options of every generator that draws in one pass."""

    latent: int | None = _latent()
    noise: int = option(16, help="k, numbers of noise an image; 0 for a deterministic generator", ge=0)
    noise_scale: float = option(
        0.2, help="size of the noise where it enters: 1 as in the papers; less where a likelihood is to be met", ge=0
    )
    exponent: float = option(
        2.0,
        help="p of the likelihood exp(−|error / scale|^p / p): 2 is Gaussian: where the text leaves things open the best guess is the mean, which is blurred; "
        "1 is Laplace: the best guess is the median, which is sharp but may be no form at all, and learns slowly which word means what",
        ge=1,
        le=4,
    )
    scale: float = option(0.1, help="scale of the likelihood: σ for exponent 2, in units of an image in [−1, 1] or of latents", gt=0)
    focus: float = option(
        0.0,
        help="extra weight of the pixels on and around what differs from the image's median colour, so that small objects on an empty background count",
        ge=0,
    )

    def provides(self) -> frozenset[str]:
        return super().provides() | {"differentiable_draw"} | ({"noise"} if self.noise else set())


@attrs.frozen(kw_only=True)
class CrossAttentionGeneratorConfig(OneShotOptions):
    """D_y: learned queries, one a patch of the image, attend to the latent; one stream of them draws forms, another chooses colours."""

    width: int | None = option(None, help="width of the stream that draws forms; follows model.width when left out", ge=1)
    shade_width: int | None = option(None, help="width of the stream that chooses colours; as the other when left out", ge=1)
    palette: int = option(4, help="colours of a patch, which its pixels mix", ge=2)
    patch: int = option(8, help="height and width of a patch in pixels; must divide the image's", ge=1)
    depth: int = option(2, help="layers of each stream", ge=1)
    heads: int = option(4, help="attention heads", ge=1)
    ratio: float = option(2.0, help="width of a layer's feed-forward part relative to the width", gt=0)
    channels: int = option(16, help="channels a pixel while the patches are joined", ge=1)
    joins: int = option(1, help="residual 3×3 convolutions that join the patches", ge=0)

    def __attrs_post_init__(self) -> None:
        check_heads(self.width, self.heads)


@attrs.frozen(kw_only=True)
class ConditionedOptions(OneShotOptions):
    """Options of the convolutional generators: noise, and a text condition that may be sampled."""

    augmentation: int = option(
        0,
        help="k', numbers of a text condition that is drawn from a Gaussian (conditioning augmentation), to be used with the loss kl; "
        "0 for the pooled latent itself",
        ge=0,
    )

    def provides(self) -> frozenset[str]:
        drawn = {"noise", "conditioning_augmentation"} if self.augmentation else set()
        return super().provides() | drawn


@attrs.frozen(kw_only=True)
class DCGANGeneratorConfig(ConditionedOptions):
    """D_y: pooled latent and noise become a small map that transposed convolutions upsample to the image's size."""

    channels: tuple[int, ...] = _stages(
        (256, 128, 64),
        "channels of each map, the smallest first; each is upsampled twofold, so 2^stages must divide the image's height and width",
    )
    upsample: str = option(
        "transposed",
        help="how a map is upsampled: a transposed 4×4 convolution, or its nearest pixel repeated before a 3×3 one",
        choices=("transposed", "nearest"),
    )
    groups: int = option(8, help="groups of the group norms; must divide every number of channels", ge=1)

    def __attrs_post_init__(self) -> None:
        _check_stages(self.channels)
        check_groups(self.channels, self.groups)


@attrs.frozen(kw_only=True)
class DFGANGeneratorConfig(ConditionedOptions):
    """D_y: noise becomes a small map that residual blocks upsample to the image's size; the text modulates every block before each convolution."""

    channels: int = option(32, help="n_f, channels at the image's size; twice as many at half of it, and so on up to eight times", ge=1)
    hidden: int = option(128, help="width of the hidden layers that give scales and shifts from the text; 256 in the paper's code", ge=1)


@attrs.frozen(kw_only=True)
class AttnGANGeneratorConfig(ConditionedOptions):
    """D_y: pooled latent and noise become a coarse map; then every place attends to the words each time before the map is refined and upsampled."""

    channels: int = option(32, help="n_g, channels of the maps whose places attend to words, and half as many in the last", ge=2)
    stages: int = option(2, help="how many of the last upsamplings have the words attended to first", ge=1)
    blocks: int = option(1, help="residual blocks after each attention; 2 in the paper", ge=0)
    groups: int = option(8, help="groups of the group norms; must divide half of `channels`", ge=1)

    def __attrs_post_init__(self) -> None:
        if self.channels % 2 or self.channels // 2 % self.groups:
            raise ValueError(f"groups = {self.groups}: expected a divisor of half of channels = {self.channels}")


@attrs.frozen(kw_only=True)
class CriticOptions(Config):
    """Options and capabilities of every critic of this plugin."""

    latent: int | None = _latent()
    spectral_norm: bool = added(
        option(False, help="divide every weight by its largest singular value; one that starts at 0 is left as it is")
    )
    minibatch: int = added(
        option(
            0,
            help="kernels of minibatch discrimination: the score also follows how near an image is to the rest of the batch, so that drawings which "
            "are all alike are told; adversarial losses ask for it. 0 for none. It costs the critic another look",
            ge=0,
        )
    )

    def provides(self) -> frozenset[str]:
        return frozenset({"second_order", "features"})


_HALVED = "channels of each stage; every stage halves height and width"


@attrs.frozen(kw_only=True)
class MatchingAwareCriticConfig(CriticOptions):
    """C: a convolutional network halves the image down to a small map, whose places attend to the latent before they are scored."""

    channels: tuple[int, ...] = _stages((32, 64, 96), _HALVED)
    width: int = option(96, help="width of the attention to the latent and of the scoring layer", ge=1)

    def __attrs_post_init__(self) -> None:
        _check_stages(self.channels)


@attrs.frozen(kw_only=True)
class DCGANCriticConfig(CriticOptions):
    """C: strided convolutions halve the image; the pooled latent is concatenated to every place of the last map, which is scored as a whole."""

    channels: tuple[int, ...] = _stages((32, 64, 128), _HALVED)
    width: int = option(64, help="width that the pooled latent is projected to before it is concatenated; 128 in the paper", ge=1)

    def __attrs_post_init__(self) -> None:
        _check_stages(self.channels)


@attrs.frozen(kw_only=True)
class PatchGANCriticConfig(CriticOptions):
    """C: strided convolutions score every patch of the image by itself, each together with the pooled latent."""

    channels: tuple[int, ...] = _stages(
        (32, 64, 128),
        "channels of each stage; every stage but the last halves height and width. A patch is 34 pixels wide with 3, 70 with 4",
    )
    width: int = option(64, help="width that the pooled latent is projected to before it is concatenated", ge=1)

    def __attrs_post_init__(self) -> None:
        _check_stages(self.channels, 2)


@attrs.frozen(kw_only=True)
class ProjectionCriticConfig(CriticOptions):
    """C: a residual network sums up the image in one vector; the text counts by its inner product with it."""

    channels: tuple[int, ...] = _stages((32, 64, 128), _HALVED)
    spectral_norm: bool = option(True, help="divide every weight by its largest singular value, as the paper does")

    def __attrs_post_init__(self) -> None:
        _check_stages(self.channels)


@attrs.frozen(kw_only=True)
class DFGANCriticConfig(CriticOptions):
    """C: residual blocks halve the image down to a small map; the pooled latent is concatenated to every place; one score of image and text together."""

    channels: int = option(32, help="n_f, channels at the image's size; twice as many at half of it, and so on up to eight times", ge=1)


@attrs.frozen(kw_only=True)
class R3GANCriticConfig(CriticOptions):
    """C: a modern residual network without norms, initialised as in Fix-up; the text counts by its inner product with the image's vector."""

    channels: tuple[int, ...] = _stages(
        (32, 64, 128), "channels of each stage; every stage but the first begins with half the height and width"
    )
    blocks: int = option(1, help="residual blocks of each stage; 2 in the paper", ge=1)
    expansion: int = option(2, help="inner width of a block relative to the stage's channels", ge=1)
    group: int = option(16, help="channels of one group of the grouped 3×3 convolutions; must divide expansion × channels", ge=1)
    width: int = option(64, help="width of the space in which image and text are multiplied", ge=1)

    def __attrs_post_init__(self) -> None:
        _check_stages(self.channels)
        uneven = [c for c in self.channels if c * self.expansion % self.group]
        if uneven:
            raise ValueError(f"group = {self.group}: expected a divisor of expansion × channels, and {uneven[0] * self.expansion} is none")
