"""What the critic sees of an image, matched layer by layer. Shapes: b batch."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from ibllm.plugin import Context, Cycle, Latent, Loss, Rng, WholeBatchLoss, at_least_float32
from ibllm_adversarial.config import FeatureMatchingConfig
from ibllm_adversarial.judged import Judged


@runtime_checkable
class ShowsFeatures(Protocol):
    """A critic that shows what it sees on its way to the score (capability ``features``)."""

    def features(self, y: Tensor, z: Latent) -> tuple[Tensor, ...]:
        """y (b c h w) in [−1, 1], latent → each layer's output (b …), first layer first."""


def features(cycle: Cycle, judged: Judged) -> list[tuple[Tensor, Tensor]]:
    """What the critic sees of the real and of the generated images, each with the caption's latent: two tensors (b …) a layer."""
    critic, z = cast(ShowsFeatures, cycle.model.part("discriminator")), judged.z(cycle)

    def seen(y: Tensor) -> tuple[Tensor, ...]:
        return cycle.through("discriminator", "features", lambda: critic.features(y, z), y, z)

    with torch.no_grad():  # nothing of the model is behind the real image's features
        real = seen(judged.real(cycle))
    return list(zip(real, seen(judged.fake(cycle)), strict=True))


class FeatureMatching(Loss):
    """Σ_layers E|f(y) − f(y_fake)|, the mean over the layer's numbers (pix2pixHD: Wang et al. 2018, eq. 4): each image with its own real one."""

    def __init__(self, config: FeatureMatchingConfig, context: Context) -> None:
        super().__init__()
        self.judged = Judged(config.of, context)

    def forward(self, cycle: Cycle) -> Tensor:
        return torch.stack([(real - drawn).abs().mean() for real, drawn in features(cycle, self.judged)]).sum()


class MeanFeatureMatching(WholeBatchLoss):
    """Σ_layers ‖E f(y) − E f(y_fake)‖² over the layer's number of numbers, E the batch's mean (Salimans et al. 2016, section 3.1, there with one layer
    and without the division, which keeps layers of different sizes comparable).
    """

    def __init__(self, config: FeatureMatchingConfig, context: Context) -> None:
        super().__init__()
        self.judged = Judged(config.of, context)

    def represent(self, cycle: Cycle) -> tuple[list[Tensor], Tensor]:
        """A share's Σ f(y) − f(y_fake) of each layer (1 …), and its number of items (1)."""
        found = features(cycle, self.judged)
        sums = [at_least_float32(real - drawn).sum(0, keepdim=True) for real, drawn in found]
        return sums, sums[0].new_full((1,), len(cycle))

    def compare(self, together: tuple[list[Tensor], Tensor], rng: Rng) -> Tensor:
        sums, items = together
        return torch.stack([(layer.sum(0) / items.sum()).square().mean() for layer in sums]).sum()


def feature_matching(config: FeatureMatchingConfig, context: Context) -> Loss:
    """Of images one by one, or of the batch's means."""
    return (MeanFeatureMatching if config.match == "mean" else FeatureMatching)(config, context)
