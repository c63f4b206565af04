"""The options of the flow. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import PixelDecoderConfig, check_heads, option


@attrs.frozen(kw_only=True)
class FlowConfig(PixelDecoderConfig):
    """D_y: a U-Net with a transformer at its smallest map carries noise to an image along learned velocities."""

    latent: int | None = option(None, help="width of the latents it reads; follows the text encoder when left out", ge=1)
    width: int | None = option(None, help="width of its layers; follows model.width when left out", ge=1)
    patch: int = option(2, help="height and width in pixels of the patches that the first layer takes in and the last one gives out", ge=1)
    channels: tuple[int, ...] = option(
        (32, 64),
        help="channels of the convolutional stages before the transformer and, with skip connections, after it; each halves height and "
        "width. With none, the transformer works on the patches themselves",
        ge=8,
    )
    depth: int = option(4, help="layers of the transformer", ge=1)
    heads: int = option(4, help="attention heads", ge=1)
    ratio: float = option(2.0, help="width of a layer's feed-forward part relative to the width", gt=0)
    predict: str = option(
        "image",
        help="what the network predicts: 'image', the end of the path, from which the velocity follows, easier where a patch has more numbers than the width; "
        "'velocity' itself",
        choices=("image", "velocity"),
    )
    times: str = option(
        "logit_normal",
        help="how training draws t: 'uniform', or 'logit_normal', the sigmoid of a normal number, which favours the middle of the path",
        choices=("uniform", "logit_normal"),
    )
    times_mean: float = option(
        -0.8,
        help="mean of the normal number; below 0, times near the noise, where the text decides what is drawn, are drawn more often",
    )
    times_scale: float = option(1.0, help="standard deviation of the normal number", gt=0)
    noise_scale: float = option(
        2.0,
        help="standard deviation of the noise at t = 0, in units of an image in [−1, 1], or of a codec's latents, whose own is about 1; large plain shapes are "
        "recognisable through noise of 1",
        gt=0,
    )
    null: float = option(
        0.1, help="condition dropout: probability that training replaces the latent by the null condition", ge=0, lt=1, live="training"
    )
    guidance: float = option(1.0, help="s of classifier-free guidance, null + s · (conditional − null); 1 for none", ge=0, live=True)
    solver: str = option("euler", help="how sampling integrates; 'heun' costs two evaluations a step", choices=("euler", "heun"), live=True)
    steps: int = option(8, help="steps of sampling", ge=1, live=True)

    def __attrs_post_init__(self) -> None:
        check_heads(self.width, self.heads)
        if self.guidance != 1 and not self.null:
            raise ValueError(f"guidance = {self.guidance:g}: expected 1 where null = 0, since the null condition is then never learned")

        uneven = [c for c in self.channels if c % 8]
        if uneven:
            raise ValueError(f"channels = {self.channels}: expected multiples of 8, the groups of the norms, and {uneven[0]} is none")

    @property
    def stride(self) -> int:
        """Pixels a side of a place that the transformer sees."""
        return self.patch * 2 ** len(self.channels)

    def provides(self) -> frozenset[str]:
        return super().provides() | {"noise", "likelihood_bound"}
