"""Regularisers: of a condition's distribution, and against ignored noise. Shapes: b batch, k numbers of a condition or of noise."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

from torch import Tensor

from ibllm.plugin import Context, Cycle, DrawingDecoder, Latent, Loss, Rng, WholeBatchLoss
from ibllm_objectives.config import KLConfig, ModeSeekingConfig


@runtime_checkable
class ConditioningAugmentation(Protocol):
    """A drawing decoder that draws its text condition (capability ``conditioning_augmentation``); the draw's noise is part of the decoder's."""

    def gaussian(self, z: Latent) -> tuple[Tensor, Tensor]:
        """(b k) mean and (b k) log σ² of the independent normal distributions that the condition is drawn from."""


def kl_to_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """(b) KL(N(μ, σ²) ‖ N(0, 1)) = ½·Σ_k μ² + σ² − 1 − log σ², in nats (Kingma and Welling 2014, appendix B)."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2


class KL(Loss):
    """E KL of the condition that the image decoder draws from a caption to the standard normal distribution (`kl_to_normal`).

    Conditioning augmentation's regulariser (StackGAN: Zhang et al. 2017, eq. 2), in nats a caption: summed over the condition's numbers, where
    the authors' code takes their mean.
    """

    def __init__(self, config: KLConfig, context: Context) -> None:
        super().__init__()

    def forward(self, cycle: Cycle) -> Tensor:
        decoder, z = cast(ConditioningAugmentation, cycle.model.part("image_decoder")), cycle.z_x
        return kl_to_normal(*cycle.once("ibllm_objectives.condition", lambda: decoder.gaussian(z), "image_decoder")).mean()


class ModeSeeking(WholeBatchLoss):
    """1 / (ratio + ε), ratio = E|drawn − drawn'| / E|noise − noise'|: two drawings of one caption must differ as their noise does.

    Mao et al. 2019 (MSGAN), section 3.2, as the inverse that the authors' code minimises; both means are over the whole batch, so that one pair
    of like images does not make the loss explode.
    """

    def __init__(self, config: ModeSeekingConfig, context: Context) -> None:
        super().__init__()
        self.epsilon = config.epsilon

    def represent(self, cycle: Cycle) -> tuple[Tensor, Tensor]:
        """(b) how far apart an item's two drawings are, (b) how far apart their noise is."""
        decoder, z = cast(DrawingDecoder, cycle.model.part("image_decoder")), cycle.z_x
        noise = decoder.noise(z, cycle.rng("mode_seeking"))
        drawn = cycle.once("ibllm_objectives.drawn_again", lambda: decoder.draw(z, noise), "image_decoder")
        return (drawn - cycle.drawn).abs().flatten(1).mean(1), (noise - cycle.noise).abs().flatten(1).mean(1)

    def compare(self, together: tuple[Tensor, Tensor], rng: Rng) -> Tensor:
        drawings, noises = together
        return 1 / (drawings.mean() / noises.mean() + self.epsilon)
