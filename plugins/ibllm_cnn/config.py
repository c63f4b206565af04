"""The options of the convolutional parts. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import Config, PixelDecoderConfig, check_groups, option


@attrs.frozen(kw_only=True)
class CNNImageEncoderConfig(Config):
    """E_y: a stem, then one stage for each entry of `channels` that halves height and width, then a projection to the latent."""

    width: int | None = option(None, help="d, width of the latent it gives; follows model.width when left out", ge=1)
    channels: tuple[int, ...] = option((32, 64, 96), help="channels of each stage; every stage halves height and width", ge=1)
    blocks: int = option(1, help="residual blocks of two 3×3 convolutions in each stage after the first", ge=0)
    factored: bool = option(False, help="read forms off the local contrast, which has no colour, and colours off each place's mean")
    groups: int = option(8, help="groups of the group norms; must divide every number of channels", ge=1)
    dropout: float = option(0.0, help="probability that a number of the latent is dropped in training", ge=0, lt=1, live="training")

    def __attrs_post_init__(self) -> None:
        if not self.channels:
            raise ValueError("channels = (): expected at least one stage")
        check_groups(self.channels, self.groups)


@attrs.frozen(kw_only=True)
class ResNetImageEncoderConfig(Config):
    """E_y: a residual network of basic blocks (He et al. 2016) with group norms (Wu and He 2018), then a projection to the latent.

    ResNet-18 is ``channels = [64, 128, 256, 512]``, ``blocks = [2, 2, 2, 2]``, ``stem = 7``, ``pool = true``; ResNet-34 has blocks [3, 4, 6, 3].
    """

    width: int | None = option(None, help="d, width of the latent it gives; follows model.width when left out", ge=1)
    channels: tuple[int, ...] = option(
        (32, 64, 128), help="channels of each stage; every stage after the first halves height and width", ge=1
    )
    blocks: tuple[int, ...] = option((1, 1, 1), help="basic blocks of each stage, as many numbers as channels has", ge=1)
    stem: int = option(3, help="height and width in pixels of the first convolution", choices=(3, 5, 7))
    stride: int = option(2, help="step of the first convolution: 2 halves height and width", ge=1, le=4)
    pool: bool = option(False, help="halve height and width once more by 3×3 max-pooling behind the stem, for large images")
    groups: int = option(8, help="groups of the group norms; must divide every number of channels", ge=1)
    dropout: float = option(0.0, help="probability that a number of the latent is dropped in training", ge=0, lt=1, live="training")

    def __attrs_post_init__(self) -> None:
        if not self.channels:
            raise ValueError("channels = (): expected at least one stage")
        if len(self.blocks) != len(self.channels):
            raise ValueError(f"blocks = {self.blocks}: expected {len(self.channels)} numbers, one for each stage of channels")
        check_groups(self.channels, self.groups)


@attrs.frozen(kw_only=True)
class CNNTextEncoderConfig(Config):
    """E_x: token embeddings through residual 1-D convolutions, one layer for each entry of `dilations`."""

    tokenizer: str = option("text", help="the [tokenizers.NAME] table whose tokens it reads")
    width: int | None = option(None, help="d, width of the latent it gives; follows model.width when left out", ge=1)
    embed: int | None = option(None, help="width of the token embeddings; follows the part's width", ge=1)
    kernel: int = option(3, help="tokens that a convolution sees, an odd number", ge=1)
    dilations: tuple[int, ...] = option(
        (1, 2, 4),
        help="distance in tokens between those that a layer's convolution sees; together a place sees (kernel − 1)·Σ dilations + 1",
        ge=1,
    )
    activation: str = option(
        "gated", help="what follows a convolution: gated (linear units; Dauphin et al. 2017) or gelu", choices=("gated", "gelu")
    )
    pool: str = option("mean", help="the pooled vector: mean over the tokens, or their maximum (Kim 2014)", choices=("mean", "max"))
    dropout: float = option(0.0, help="probability that a layer's output number is dropped in training", ge=0, lt=1, live="training")

    def __attrs_post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel = {self.kernel}: expected an odd number, so that a token has as many neighbours on either side")

    def provides(self) -> frozenset[str]:
        return frozenset({"soft_tokens"})


@attrs.frozen(kw_only=True)
class CNNImageDecoderConfig(PixelDecoderConfig):
    """D_y: the pooled latent, and noise where there is any, becomes a small map, which upsampling and convolutions grow to the image."""

    latent: int | None = option(None, help="width of the latents it reads; follows the text encoder when left out", ge=1)
    channels: tuple[int, ...] = option((128, 64, 32), help="channels of the first map and after each twofold upsampling", ge=1)
    blocks: int = option(0, help="residual blocks of two 3×3 convolutions after each upsampling", ge=0)
    groups: int = option(8, help="groups of the group norms; must divide every number of channels", ge=1)
    noise: int = option(0, help="k, numbers of noise an image; 0 for a deterministic decoder", ge=0)
    exponent: float = option(2.0, help="p of the likelihood exp(−|error / scale|^p / p): 2 is Gaussian, 1 is Laplace", ge=1, le=4)
    scale: float = option(0.1, help="scale of the likelihood: σ for exponent 2, in units of an image in [−1, 1]", gt=0)
    focus: float = option(0.0, help="extra weight of the pixels on and around what differs from the image's median colour", ge=0)

    def __attrs_post_init__(self) -> None:
        if not self.channels:
            raise ValueError("channels = (): expected at least the first map's")
        check_groups(self.channels, self.groups)

    def provides(self) -> frozenset[str]:
        return super().provides() | {"differentiable_draw"} | ({"noise"} if self.noise else set())
