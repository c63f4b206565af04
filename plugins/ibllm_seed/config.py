"""The options of the article's plain convolutional parts. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import Config, option


@attrs.frozen(kw_only=True)
class SeedImageEncoderConfig(Config):
    """E_y: one 3×3 convolution to the latent's width, averaged over the cells of a grid."""

    width: int | None = option(None, help="d, width of the latent it gives (the article: 256); follows model.width when left out", ge=1)
    grid: int = option(4, help="cells of the grid in each direction; the latent has grid² places", ge=1)


@attrs.frozen(kw_only=True)
class SeedImageDecoderConfig(Config):
    """D_y: the pooled latent, projected, at every pixel beside the pixel's own learned numbers; one 3×3 convolution to colours."""

    latent: int | None = option(None, help="width of the latents it reads; follows the text encoder when left out", ge=1)
    width: int | None = option(None, help="channels a pixel before the convolution (the article: 256); follows model.width", ge=1)
    scale: float = option(0.1, help="σ of the Gaussian likelihood, in units of an image in [−1, 1]", gt=0)

    def provides(self) -> frozenset[str]:
        return frozenset({"differentiable_draw"})
