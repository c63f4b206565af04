"""Codecs that give continuous latents. Shapes: b batch, c h w image, c' latent channels, r s rows and columns of places."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ibllm.plugin import Context, LatentCodec, Reconstruction, Rng
from ibllm_tokens.autoencoder import ConvCodec
from ibllm_tokens.config import KLConfig

#: Bounds of log σ² (as in the code of Rombach et al. 2022).
LOG_VARIANCE = (-30.0, 20.0)


class Standardiser(nn.Module):
    """Moving averages of each channel's mean and variance, by which what comes after sees channels of about zero mean and unit variance.

    Latent diffusion divides by one number, estimated after the training (Rombach et al. 2022, appendix G). Here each channel has its own, estimated while the
    codec is trained: the share of a new step is 1 / steps at first and 1 − `decay` later. Under torch.distributed all processes keep the same.
    """

    mean: Tensor
    variance: Tensor
    steps: Tensor

    def __init__(self, channels: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("variance", torch.ones(channels, 1, 1))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """x (b c' r s) → standardised."""
        return (x - self.mean) * self.variance.rsqrt()

    def inverse(self, x: Tensor) -> Tensor:
        """Standardised (b c' r s) → x."""
        return x * self.variance.sqrt() + self.mean

    @torch.no_grad()
    def follow(self, x: Tensor) -> None:
        """Takes a training step's x (b c' r s) into the averages."""
        moments = torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))])[:, :, None, None]
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(moments)
            moments = moments / dist.get_world_size()
        self.steps.add_(1)
        share = (1 / self.steps).clamp(min=1 - self.decay)
        self.mean.lerp_(moments[0], share)
        # The spread of the present step around the average, not around its own mean: channels that drift are not taken for narrow ones.
        spread = moments[1] - 2 * self.mean * moments[0] + self.mean.square()
        self.variance.lerp_(spread.clamp(min=1e-6), share)


class KLCodec(ConvCodec, LatentCodec):
    """A variational autoencoder (Kingma and Welling 2014) with a small weight on its KL term, so that latents stay informative (Rombach et al. 2022,
    section 3.1, KL-reg.). In train mode a latent is drawn around the mean that the encoder gives; in use it is the mean."""

    def __init__(self, config: KLConfig, context: Context) -> None:
        super().__init__(config, context, 2 * config.latents, config.latents)
        self.weight, self.latent_shape = config.weight, (config.latents, *self.grid)
        self.standardiser = Standardiser(config.latents, config.decay)

    def encode_latents(self, y: Tensor) -> Tensor:
        latents: Tensor = self.standardiser(self.gaussian(y)[0])
        return latents

    def decode_latents(self, latents: Tensor) -> Tensor:
        return self._decode(self.standardiser.inverse(latents))

    def gaussian(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y (b c h w) → mean and log σ², each (b c' r s), of q(latents | y), before they are standardised."""
        mean, log_variance = self._encode(y).float().chunk(2, 1)
        return mean, log_variance.clamp(*LOG_VARIANCE)

    def reconstruct(self, y: Tensor) -> Reconstruction:
        mean, log_variance = self.gaussian(y)
        latents = mean
        # KL(N(μ, σ²) ‖ N(0, 1)) a number, in nats (Kingma and Welling 2014, appendix B).
        kl = (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).mean(1) / 2
        if self.training:
            self.standardiser.follow(mean.detach())
            latents = mean + (log_variance / 2).exp() * Rng.of_pass(len(y), y.device).normal(*self.latent_shape)
        return Reconstruction(self._decode(latents), self.weight * kl)
