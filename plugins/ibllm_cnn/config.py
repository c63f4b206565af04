"""The options of the convolutional image encoder. Torch-free."""

from __future__ import annotations

import attrs

from ibllm_core.options import Config, option


@attrs.frozen(kw_only=True)
class CNNImageEncoderConfig(Config):
    """E_y: a stem, then one stage for each entry of `channels` that halves height and width, then a projection to the latent."""

    width: int | None = option(None, help="d, width of the latent it gives; follows model.width when left out", ge=1)
    channels: tuple[int, ...] = option((32, 64, 96), help="channels of each stage; every stage halves height and width", ge=1)
    blocks: int = option(1, help="residual blocks of two 3×3 convolutions in each stage after the first", ge=0)
    factored: bool = option(False, help="read forms off the local contrast, which has no colour, and colours off each place's mean")
    groups: int = option(8, help="groups of the group norms; must divide every number of channels", ge=1)
    dropout: float = option(0.0, help="probability that a number of the latent is dropped in training", ge=0, lt=1)

    def __attrs_post_init__(self) -> None:
        if not self.channels:
            raise ValueError("channels = (): expected at least one stage")
        uneven = [c for c in self.channels if c % self.groups]
        if uneven:
            raise ValueError(f"groups = {self.groups}: expected a divisor of every number of channels, and {uneven[0]} is none")
