"""The options of the objectives. Torch-free."""

from __future__ import annotations

import attrs

from ibllm_core.options import LossConfig, option
from ibllm_core.recipe.schema import Weight


@attrs.frozen(kw_only=True)
class ImageNLLConfig(LossConfig):
    """−log p(y|x)."""

    per: str = option(
        "dimension", help="divide by the c·h·w numbers of an image ('dimension'), or not ('sample')", choices=("dimension", "sample")
    )

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_decoder"})


@attrs.frozen(kw_only=True)
class _TextOptions(LossConfig):
    per: str = option("token", help="mean over tokens ('token') or over whole texts ('sample')", choices=("token", "sample"))


@attrs.frozen(kw_only=True)
class TextNLLConfig(_TextOptions):
    """−log p(x|y)."""

    def needs(self) -> frozenset[str]:
        return frozenset({"image_encoder", "text_decoder"})


@attrs.frozen(kw_only=True)
class AnswerNLLConfig(_TextOptions):
    """−log p(answer | y, question)."""

    def needs(self) -> frozenset[str]:
        return frozenset({"image_encoder", "text_decoder", "text_decoder.prefix"})


@attrs.frozen(kw_only=True)
class CycleNLLConfig(_TextOptions):
    """−log p(x | E_y(D_y(E_x(x))))."""

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_decoder", "image_decoder.differentiable_draw", "image_encoder", "text_decoder"})


@attrs.frozen(kw_only=True)
class JointConfig(LossConfig):
    """L_text + λ·L_image. The terms enter with λ alone; their own weights in the recipe count only where they stand by themselves."""

    text: str = option("image_nll", help="name of the recipe's loss that is L_text, −log p(y|x)")
    image: str = option("text_nll", help="name of the recipe's loss that is L_image, −log p(x|y)")
    lambda_: Weight = option(1.0, key="lambda", help="λ: a number, or a line over the stage's first steps")

    def __attrs_post_init__(self) -> None:
        if self.text == self.image:
            raise ValueError(f"text = image = {self.text!r}: expected two different losses")

    def terms(self) -> tuple[str, ...]:
        return (self.text, self.image)


@attrs.frozen(kw_only=True)
class _ContrastiveOptions(LossConfig):
    width: int = option(64, help="width of the common space that both pooled latents are projected to", ge=1)

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_encoder"})


@attrs.frozen(kw_only=True)
class ContrastiveConfig(_ContrastiveOptions):
    """InfoNCE with a learned temperature."""

    scale: float = option(1 / 0.07, help="first value of the learned factor on cosines (1 / temperature)", gt=0)
    largest_scale: float = option(100.0, help="the factor never grows beyond this", gt=0)


@attrs.frozen(kw_only=True)
class ContrastiveSigmoidConfig(_ContrastiveOptions):
    """SigLIP with a learned temperature and bias."""

    scale: float = option(10.0, help="first value of the learned factor on cosines (1 / temperature)", gt=0)
    bias: float = option(-10.0, help="first value of the learned bias; low, since most pairs of a batch do not match")
