"""What the critic sees of an image, matched layer by layer. Shapes: b batch."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from ibllm.plugin import Context, Cycle, Latent, Loss
from ibllm_adversarial.config import FeatureMatchingConfig


@runtime_checkable
class ShowsFeatures(Protocol):
    """A critic that shows what it sees on its way to the score (capability ``features``)."""

    def features(self, y: Tensor, z: Latent) -> tuple[Tensor, ...]:
        """y (b c h w) in [−1, 1], latent → each layer's output (b …), first layer first."""


class FeatureMatching(Loss):
    """The distance between the critic's features of the real and of the generated image, both with the caption's latent.

    `match` = image: Σ_layers E|f(y) − f(y_fake)|, the mean over the layer's numbers (pix2pixHD: Wang et al. 2018, eq. 4).
    `match` = mean: Σ_layers ‖E f(y) − E f(y_fake)‖² over the layer's number of numbers, E the batch's mean (Salimans et al. 2016, section 3.1,
    there with one layer and without the division, which keeps layers of different sizes comparable).
    """

    def __init__(self, config: FeatureMatchingConfig, context: Context) -> None:
        super().__init__()
        self.match = config.match

    def forward(self, cycle: Cycle) -> Tensor:
        z = cycle.z_x.detach()
        with torch.no_grad():  # nothing of the model is behind the real image's features
            real = self._features(cycle, cycle.y, z)
        drawn = self._features(cycle, cycle.y_fake, z)
        return torch.stack([self.distance(r, d) for r, d in zip(real, drawn, strict=True)]).sum()

    def _features(self, cycle: Cycle, y: Tensor, z: Latent) -> tuple[Tensor, ...]:
        critic = cast(ShowsFeatures, cycle.model.part("discriminator"))
        return cycle.through("discriminator", "features", lambda: critic.features(y, z), y, z)

    def distance(self, real: Tensor, drawn: Tensor) -> Tensor:
        """() of one layer's features (b …)."""
        if self.match == "mean":
            return (real.mean(0) - drawn.mean(0)).square().mean()
        return (real - drawn).abs().mean()
