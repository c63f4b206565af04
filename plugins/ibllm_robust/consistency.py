"""Clean and perturbed images agree. Shapes: b batch, c h w image, t tokens of a text, v vocabulary."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from ibllm.plugin import Context, Cycle, ImageEncoder, Latent, Loss, TextDecoder, UserError, Value, at_least_float32, dropout_off
from ibllm_robust.config import RobustConsistencyConfig
from ibllm_robust.objectives import distance


class RobustConsistency(Loss):
    """What the model makes of a perturbed image is what it makes of the clean one.

    ``latent``: ‖E(x + δ) − E*(x)‖², E* the model's own encoder, or a frozen teacher as in FARE (Schlarmann et al. 2024, "Robust CLIP: Unsupervised Adversarial
    Fine-Tuning of Vision Embeddings for Robust Large Vision-Language Models", equation 3), where all images are perturbed.

    ``captions``: Σ_t KL(p(· | x_<t, clean) ‖ p(· | x_<t, perturbed)) a token, the second term of TRADES (Zhang et al. 2019, "Theoretically Principled Trade-off
    between Robustness and Accuracy", equation 5) word by word; its first is `text_nll` of the clean images (``replace = false``).

    Of items that the stage did not perturb it is 0, and they count.
    """

    def __init__(self, config: RobustConsistencyConfig, context: Context) -> None:
        super().__init__()
        self.config = config

    def count(self, cycle: Cycle) -> Tensor | None:
        return cycle.x_out.mask[:, 1:].sum() if self.config.of == "captions" else None

    def forward(self, cycle: Cycle) -> Value:
        if self.config.of == "captions":
            return self.divergence(cycle), cast(Tensor, self.count(cycle))
        clean = self.latent(cycle, "y_clean", self.config.teacher or "image_encoder")
        return distance(self.latent(cycle, "y_perturbed", "image_encoder"), clean.detach() if self.config.stop else clean).mean()

    def divergence(self, cycle: Cycle) -> Tensor:
        """() summed over all tokens."""
        ids, mask = cycle.x_out.ids, cycle.x_out.mask
        decoder = cast(TextDecoder, cycle.model.part("text_decoder"))

        def words(name: str) -> Tensor:
            z = self.latent(cycle, name, "image_encoder")
            logits = cycle.through("text_decoder", f"ibllm_robust.words.{name}", lambda: decoder.logits(ids[:, :-1], mask[:, :-1], z), z)
            return at_least_float32(logits).log_softmax(-1)

        clean, perturbed = words("y_clean"), words("y_perturbed")
        return ((clean.exp() * (clean - perturbed)).sum(-1) * mask[:, 1:]).sum()

    def latent(self, cycle: Cycle, name: str, part: str) -> Latent:
        """Of clean or perturbed images, once a batch."""
        images = cast(Tensor | None, getattr(cycle.batch, name))
        if images is None:
            raise UserError(
                'robust_consistency compares clean and perturbed images, but the stage perturbs none: expected stages.NAME.perturb with of = "image"'
            )
        encoder: Any = cycle.model.part(part)
        if images is cycle.y and part == "image_encoder":
            return cycle.z_y

        def look() -> Latent:
            if part == "image_encoder":
                return cast(Latent, cast(ImageEncoder, encoder)(images))
            with torch.no_grad(), dropout_off(encoder):
                return cast(Latent, encoder(images))

        return cycle.once(f"ibllm_robust.latent.{name}.{part}", look, part)
