"""The options. Torch-free: a recipe is checked before torch is imported."""

from __future__ import annotations

import attrs
from ibllm.plugin import Config, LossConfig, option


@attrs.frozen(kw_only=True)
class EllipseDecoderConfig(Config):
    """D_y: the pooled latent becomes a ground colour and a number of ellipses, which are painted one over the other."""

    latent: int | None = option(None, help="width of the latents it reads; follows the text encoder when left out", ge=1)
    ellipses: int = option(16, help="how many it paints", ge=1)
    width: int | None = option(None, help="width of the hidden layers; follows model.width when left out", ge=1)
    depth: int = option(2, help="hidden layers between the latent and the ellipses", ge=0)
    softness: float = option(
        2.0, help="the widest edge in pixels; each ellipse chooses its own up to it. A wide one reaches farther", gt=0.3
    )
    noise: int = option(0, help="numbers of noise an image; 0 for a deterministic decoder", ge=0)
    scale: float = option(0.2, help="σ of the Gaussian likelihood around the drawing, in units of an image in [−1, 1]", gt=0)
    focus: float = option(
        0.0, help="extra weight in it of what differs from the image's median colour, so that thin things on an even ground count", ge=0
    )

    def provides(self) -> frozenset[str]:
        return frozenset({"differentiable_draw"} | ({"noise"} if self.noise else set()))


@attrs.frozen(kw_only=True)
class EdgeLossConfig(LossConfig):
    """Edges of the drawn image against those of the real one: what a one-shot decoder blurs where it is not sure."""

    exponent: float = option(1.0, help="α, the power that a difference of edges is raised to; 1 or 2 in the paper", ge=1, le=2)

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_decoder", "image_decoder.differentiable_draw", "data.pairs"})
