"""Base classes of the generators: the likelihood of an image, noise and text condition.

Shapes: b batch, c h w image or map, n latent places, m latent width, k noise, a numbers of augmentation, e width of the condition.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibllm.plugin import Context, DrawingDecoder, Latent, generalised_normal, into_range
from ibllm_gan.config import ConditionedOptions, OneShotOptions

#: Height or width of the smallest map that a generator or a critic whose depth follows the image works on.
SMALLEST = 4


class OneShotDecoder(DrawingDecoder):
    """A generator that draws in one pass; its likelihood is a generalised normal distribution around the drawing."""

    def __init__(self, config: OneShotOptions, context: Context) -> None:
        super().__init__()
        self.options, self.noise_width = config, config.noise
        self.into_range = into_range(context.bounded)

    def likelihood(self, y: Tensor, drawn: Tensor) -> Tensor:
        return generalised_normal(y, drawn, self.options.scale, self.options.exponent, self.options.focus)


class ConditionalGenerator(OneShotDecoder):
    """A generator that reads one vector of text.

    That vector is the pooled latent, or with `augmentation` is drawn from N(μ(z), diag σ²(z)), an affine map of it: conditioning
    augmentation (Zhang et al. 2017, StackGAN, section 3.2). The draw's numbers come first in `noise`.
    """

    def __init__(self, config: ConditionedOptions, context: Context) -> None:
        super().__init__(config, context)
        latent = config.latent or context.latent
        self.augmentation, self.noise_width = config.augmentation, config.noise + config.augmentation
        self.augment = nn.Linear(latent, 2 * config.augmentation) if config.augmentation else None
        #: e, and k + e.
        self.condition_width, self.input_width = config.augmentation or latent, (config.augmentation or latent) + config.noise

    def gaussian(self, z: Latent) -> tuple[Tensor, Tensor]:
        """(b a) mean and (b a) log σ² of the text's condition (capability ``conditioning_augmentation``)."""
        if self.augment is None:
            raise NotImplementedError("augmentation = 0: the condition is not drawn")
        mean, log_variance = self.augment(z.pooled).chunk(2, -1)
        return mean, log_variance

    def condition(self, z: Latent, noise: Tensor) -> tuple[Tensor, Tensor]:
        """latent (b n m), noise (b a+k) → noise (b k), scaled, and the two concatenated, noise and text condition (b k+e)."""
        condition = z.pooled
        if self.augment is not None:
            mean, log_variance = self.gaussian(z)
            condition = mean + (0.5 * log_variance).exp() * noise[:, : self.augmentation]
        noise = self.options.noise_scale * noise[:, self.augmentation :]
        return noise, torch.cat([noise.to(condition.dtype), condition], -1)


def smallest_grid(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(c h w) of an image → how often its height and width can be halved down to no less than `SMALLEST`, and height and width of that map.

    Raises:
        ValueError: it cannot be halved once.
    """
    _, height, width = shape
    times = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) >= 2 * SMALLEST:
        times, height, width = times + 1, height // 2, width // 2
    if not times:
        raise ValueError(f"an image of {height}×{width} pixels: expected even sizes of at least {2 * SMALLEST}, which can be halved")
    return times, height, width


def channels_by_size(channels: int, times: int) -> list[int]:
    """Channels at the image's size, at half of it, … : n_f · min(2^i, 8) (Tao et al. 2022, after Zhang et al. 2019, SAGAN)."""
    return [channels * min(2**i, 8) for i in range(times + 1)]
