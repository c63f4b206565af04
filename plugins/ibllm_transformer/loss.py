"""Text and image as one sequence. Shapes: b batch, m image tokens."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

from torch import Tensor

from ibllm.plugin import Context, Cycle, Latent, Loss, Rng, Tokens
from ibllm_transformer.config import CaptionImageNLLConfig


@runtime_checkable
class CaptionLikelihood(Protocol):
    """A token decoder that reads text and image as one sequence (capability ``caption_likelihood``)."""

    def caption_nll(self, tokens: Tokens, y: Tensor, z: Latent, rng: Rng) -> tuple[Tensor, Tensor]:
        """(b) −log p(text) and (b) −log p(ids | text) in nats, in one pass; `tokens` is the text that z was made from, y (b m) the ids."""


class CaptionImageNLL(Loss):
    """(CE_text + w·CE_image) / (1 + w), in nats a token: the objective of DALL-E (Ramesh et al. 2021, section 2.2: w = 7).

    Each text's and each image's cross-entropy is the mean over its own tokens (the text's beginning is not predicted, its end is); items
    weigh alike.
    """

    def __init__(self, config: CaptionImageNLLConfig, context: Context) -> None:
        super().__init__()
        self.weight = config.image_weight

    def forward(self, cycle: Cycle) -> Tensor:
        x, ids = cycle.x, cycle.code
        decoder, z = cast(CaptionLikelihood, cycle.model.part("image_decoder")), cycle.z_x
        text, image = cycle.once(
            "ibllm_transformer.caption_nll", lambda: decoder.caption_nll(x, ids, z, cycle.rng("image_nll")), "image_decoder"
        )
        tokens = x.mask[:, 1:].sum(1).clamp(min=1)
        return ((text / tokens + self.weight * image / ids.shape[1]) / (1 + self.weight)).mean()
