"""The options of the decoder with a posterior over its noise. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import PixelDecoderConfig, check_heads, option


@attrs.frozen(kw_only=True)
class FlowVAEConfig(PixelDecoderConfig):
    """D_y: a conditional variational autoencoder. What the text leaves open is where each of some places lies in the image; a flow draws it given the text,
    and one pass draws the image given both."""

    latent: int | None = option(None, help="width of the latents it reads; follows the text encoder when left out", ge=1)
    places: str = option(
        "words",
        help="what has a place in the image: 'words', every token of the text, or 'slots', learned queries that read the text, which know nothing of words",
        choices=("words", "slots"),
    )
    slots: int = option(4, help="number of slots", ge=1)
    slot_depth: int = option(2, help="layers in which slots read the text", ge=1)
    extra: int = option(
        0, help="further numbers of a place beside its two coordinates, for what else the text leaves open: a hue, a style", ge=0
    )
    width: int | None = option(None, help="width of the stream that draws forms; follows model.width when left out", ge=1)
    shade_width: int | None = option(None, help="width of the stream that chooses colours; as the other when left out", ge=1)
    palette: int = option(4, help="colours of a patch, which its pixels mix", ge=2)
    patch: int = option(8, help="height and width of a patch in pixels; must divide the image's", ge=1)
    depth: int = option(2, help="layers of each stream", ge=1)
    heads: int = option(4, help="attention heads, of all layers", ge=1)
    ratio: float = option(2.0, help="width of a layer's feed-forward part relative to the width", gt=0)
    channels: int = option(16, help="channels a pixel while the patches are joined", ge=1)
    joins: int = option(1, help="residual 3×3 convolutions that join the patches", ge=0)
    posterior_channels: tuple[int, ...] = option(
        (32, 64), help="channels of the convolutions through which the posterior looks at an image; each halves height and width", ge=1
    )
    least_deviation: float = option(
        0.001,
        help="smallest standard deviation of the posterior, relative to the image's width: the drawing learns to bear as much, and the prior need not be more "
        "exact",
        gt=0,
        lt=0.25,
    )
    kl: float = option(
        2.0,
        help="β, weight in training of the divergence of the posterior from a standard normal distribution, which keeps places in bounds",
        ge=0,
    )
    grounding: float = option(
        1.0,
        help="weight in training of the coarse image that the posterior's attention has to explain, each point by one place's colour or the ground's; "
        "0 leaves it out, and then places are found late or never",
        ge=0,
    )
    prior_width: int | None = option(None, help="width of the prior; follows model.width when left out", ge=1)
    prior_depth: int = option(3, help="layers of the prior", ge=1)
    steps: int = option(
        3, help="steps in which the prior draws places; all but the last cost two evaluations of it (Heun)", ge=1, live=True
    )
    temperature: float = option(
        1.0,
        help="size of the noise that the prior starts from, relative to that of training: with less, likelier places are drawn, which lie closer together",
        ge=0,
        live=True,
    )
    exponent: float = option(
        2.0, help="p of the likelihood exp(−|error / scale|^p / p) around the drawing: 2 is Gaussian, 1 is Laplace", ge=1, le=4
    )
    scale: float = option(0.1, help="scale of the likelihood: σ for exponent 2, in units of an image in [−1, 1] or of latents", gt=0)
    focus: float = option(
        0.0,
        help="extra weight of the pixels on and around what differs from the image's median colour, so that small objects on an empty background count",
        ge=0,
    )

    def __attrs_post_init__(self) -> None:
        check_heads(self.width, self.heads)
        check_heads(self.prior_width, self.heads)
        if not self.posterior_channels:
            raise ValueError("posterior_channels = (): expected at least one")

    def provides(self) -> frozenset[str]:
        return super().provides() | {"differentiable_draw", "noise"}

    def trainable(self) -> tuple[str, ...]:
        return ("prior",)
