"""Text and image as one sequence. Shapes: b batch, m image tokens."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from ibllm.plugin import Context, Cycle, Loss, TokenDecoder
from ibllm_transformer.config import CaptionImageNLLConfig


class CaptionImageNLL(Loss):
    """(CE_text + w·CE_image) / (1 + w), in nats a token: the objective of DALL-E (Ramesh et al. 2021, section 2.2: w = 7).

    Each text's and each image's cross-entropy is the mean over its own tokens (the text's beginning is not predicted, its end is); items
    weigh alike.
    """

    def __init__(self, config: CaptionImageNLLConfig, context: Context) -> None:
        super().__init__()
        self.weight = config.image_weight

    def forward(self, cycle: Cycle) -> Tensor:
        x, ids = cycle.x, cycle.image_ids
        decoder = cast(TokenDecoder, cycle.model.part("image_decoder"))
        text, image = decoder.caption_nll(x, ids, cycle.z_x, cycle.rng("image_nll"))
        tokens = x.mask[:, 1:].sum(1).clamp(min=1)
        return ((text / tokens + self.weight * image / ids.shape[1]) / (1 + self.weight)).mean()
