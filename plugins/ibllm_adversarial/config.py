"""The options of the adversarial losses. Torch-free."""

from __future__ import annotations

import attrs

from ibllm_core.options import LossConfig, option


@attrs.frozen(kw_only=True)
class RelativisticConfig(LossConfig):
    """Relativistic pairing."""

    mismatched: float = option(
        0.0, help="weight of a second term for the critic: the real image with its own caption against it with another's", ge=0
    )

    def players(self) -> tuple[str, ...]:
        return ("model", "critic")

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_decoder", "image_decoder.differentiable_draw", "discriminator"})


@attrs.frozen(kw_only=True)
class GradientPenaltyConfig(LossConfig):
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
        drawn = {"image_decoder", "image_decoder.differentiable_draw"} if "generated" in self.at else set()
        return frozenset({"text_encoder", "discriminator", "discriminator.second_order"} | drawn)
