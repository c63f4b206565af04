"""The options of the adversarial parts. Torch-free."""

from __future__ import annotations

import attrs

from ibllm_core.options import Config, option


def check_heads(width: int | None, heads: int) -> None:
    """Raises `ValueError` if the heads do not share the width evenly; a width that follows the model is checked when the part is built."""
    if width is not None and width % heads:
        raise ValueError(f"heads = {heads}: expected a divisor of width = {width}")


@attrs.frozen(kw_only=True)
class CrossAttentionGeneratorConfig(Config):
    """D_y: learned queries, one a patch of the image, attend to the latent; one stream of them draws forms, another chooses colours."""

    latent: int | None = option(None, help="width of the latents it reads; follows the text encoder when left out", ge=1)
    width: int | None = option(None, help="width of the stream that draws forms; follows model.width when left out", ge=1)
    shade_width: int | None = option(None, help="width of the stream that chooses colours; as the other when left out", ge=1)
    palette: int = option(4, help="colours of a patch, which its pixels mix", ge=2)
    patch: int = option(8, help="height and width of a patch in pixels; must divide the image's", ge=1)
    depth: int = option(2, help="layers of each stream", ge=1)
    heads: int = option(4, help="attention heads", ge=1)
    ratio: float = option(2.0, help="width of a layer's feed-forward part relative to the width", gt=0)
    noise: int = option(16, help="k, numbers of noise an image; 0 for a deterministic generator", ge=0)
    noise_scale: float = option(0.2, help="size of the noise beside the learned queries, which have unit size", ge=0)
    channels: int = option(16, help="channels a pixel while the patches are joined", ge=1)
    joins: int = option(1, help="residual 3×3 convolutions that join the patches", ge=0)
    exponent: float = option(
        2.0,
        help="p of the likelihood exp(−|error / scale|^p / p): 2 is Gaussian, its best guess where the text leaves things open is the mean, which is soft; "
        "1 is Laplace, the median, which is sharp but may be no form at all, and binds slowly",
        ge=1,
        le=4,
    )
    scale: float = option(0.1, help="scale of the likelihood: σ for exponent 2, in units of an image in [−1, 1]", gt=0)
    focus: float = option(
        0.0,
        help="extra weight of the pixels on and around what differs from the image's median colour, so that small things on an empty ground count",
        ge=0,
    )

    def __attrs_post_init__(self) -> None:
        check_heads(self.width, self.heads)

    def provides(self) -> frozenset[str]:
        return frozenset({"differentiable_draw"} | ({"noise"} if self.noise else set()))


@attrs.frozen(kw_only=True)
class MatchingAwareCriticConfig(Config):
    """C: a convolutional network halves the image down to a small map, whose places attend to the latent before they are scored."""

    latent: int | None = option(None, help="width of the latents it reads; follows the text encoder when left out", ge=1)
    channels: tuple[int, ...] = option((32, 64, 96), help="channels of each stage; every stage halves height and width", ge=1)
    width: int = option(96, help="width of the attention to the latent and of the scoring layer", ge=1)

    def __attrs_post_init__(self) -> None:
        if not self.channels:
            raise ValueError("channels = (): expected at least one stage")

    def provides(self) -> frozenset[str]:
        return frozenset({"second_order"})
