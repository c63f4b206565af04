"""The options of the losses of agreement. Torch-free."""

from __future__ import annotations

import attrs

from ibllm.plugin import LossConfig, check_heads, option


@attrs.frozen(kw_only=True)
class MatchingConfig(LossConfig):
    """Does this caption belong to this image? A small transformer over both decides."""

    width: int = option(64, help="width of the transformer, and of the space in which similar pairs are looked for", ge=1)
    depth: int = option(2, help="layers of the transformer", ge=1)
    heads: int = option(4, help="attention heads", ge=1)
    ratio: float = option(2.0, help="width of a layer's feed-forward part relative to the width", gt=0)
    mismatches: str = option(
        "similar", help="mismatched pairs that are much alike (hard ones), or any pairs of the batch", choices=("similar", "any")
    )
    scale: float = option(1 / 0.07, help="with 'similar': factor on cosines (1 / temperature), how hard the mismatches are", gt=0)

    def __attrs_post_init__(self) -> None:
        check_heads(self.width, self.heads)

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_encoder", "data.pairs"})


@attrs.frozen(kw_only=True)
class DAMSMConfig(LossConfig):
    """Words find the regions that they speak of."""

    width: int = option(
        64, help="width of the common space that both latents are projected to; 0 takes them as they are, both of one width", ge=0
    )
    images: str = option(
        "real",
        help="captions with real images, or with those drawn from them: then the image decoder learns (best with frozen encoders and width = 0)",
        choices=("real", "generated"),
    )
    word_sharpness: float = option(4.0, help="γ1, how sharply a word attends to regions", gt=0)
    word_pooling: float = option(5.0, help="γ2, how much the best word counts for the whole", gt=0)
    scale: float = option(10.0, help="γ3, factor on the scores of pairs before the softmax over the batch", gt=0)

    def needs(self) -> frozenset[str]:
        drawn = {"image_decoder", "image_decoder.differentiable_draw"} if self.images == "generated" else set()
        return frozenset({"text_encoder", "image_encoder", "data.pairs"} | drawn)
