"""How far apart two images are to a network that sees. Shapes: b batch, c h w image, n latent places, d latent width."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ibllm.plugin import Context, Cycle, ImageEncoder, Loss
from ibllm_objectives.config import PerceptualConfig


class Perceptual(Loss):
    """E_places ‖f(y) − f(ŷ)‖² of an image encoder's latent places f, each of unit length (Johnson et al. 2016, eq. 2; of unit length as in LPIPS,
    Zhang et al. 2018, eq. 1, without its learned weights). Half of it is 1 − cos.

    ŷ is the codec's reconstruction of an image, or the drawing of its caption. The gradient goes through the encoder to ŷ.
    """

    def __init__(self, config: PerceptualConfig, context: Context) -> None:
        super().__init__()
        self.config = config

    def forward(self, cycle: Cycle) -> Tensor:
        y, other = (cycle.images, cycle.reconstruction.image) if self.config.of == "reconstruction" else (cycle.y, cycle.y_fake)
        with torch.no_grad():
            wanted = self.seen(cycle, y)
        return (wanted - self.seen(cycle, other)).square().sum(-1).mean()

    def seen(self, cycle: Cycle, y: Tensor) -> Tensor:
        """y (b c h w) → (b n d), places of unit length."""
        encoder = cast(ImageEncoder, cycle.model.part(self.config.features))
        return F.normalize(cycle.through(self.config.features, "perceptual", lambda: encoder(y), y).tokens.float(), dim=-1)
