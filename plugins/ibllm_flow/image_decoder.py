"""D_y as a rectified flow. Shapes: b batch, c h w image (or a codec's latents), n latent places, m their width."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ibllm.plugin import (
    MIN_TIME_LEFT,
    Context,
    ImageDecoder,
    Latent,
    Rng,
    bound_times,
    concatenate_latents,
    drop_condition,
    guided,
    integrate,
    path_bound,
)
from ibllm_flow.config import FlowConfig
from ibllm_flow.network import FlowNetwork


class FlowDecoder(ImageDecoder):
    """Rectified flow (Liu, Gong and Liu 2023; Lipman et al. 2023, with straight paths and no minimal noise).

    The path from noise ε to image y is x_t = (1 − t)ε + t·y; the network learns E[y − ε | x_t, t, z], the velocity that carries the one distribution into
    the other.
    """

    checkpointed = ("network.before", "network.layers", "network.after")

    def __init__(self, config: FlowConfig, context: Context) -> None:
        super().__init__()
        self.config, self.image_shape, self.bounded = config, context.image_shape, context.bounded
        self.network = FlowNetwork(config, config.width or context.width, config.latent or context.latent, context.image_shape)

    def velocity(self, x: Tensor, t: Tensor, z: Latent) -> Tensor:
        """x (b c h w) at times t (b) in [0, 1] → v(x, t | z) (b c h w), without guidance."""
        predicted = self.network(x, t, z).float()
        return predicted if self.config.predict == "velocity" else (predicted - x) / self._time_left(t)

    def nll(self, y: Tensor, z: Latent, rng: Rng) -> Tensor:
        """(b) in evaluation mode a bound of −log p(y | z) in nats (`bound`), in train mode the flow-matching objective (`objective`)."""
        return self.objective(y, z, rng) if self.training else self.bound(y, z, rng)

    def objective(self, y: Tensor, z: Latent, rng: Rng) -> Tensor:
        """(b) ‖v(x_t, t | z) − (y − ε)‖² for one t and one ε an image (Lipman et al. 2023, eq. 23).

        It is the bound with other weights on the times, which learns better (Kingma and Gao 2023): fit for training, but not in nats. With
        predict = "image" times within `MIN_TIME_LEFT` of the end weigh as much as that far from it.
        """
        noise, t = self._noise(rng), self._times(rng)
        x = self._interpolate(noise, y, t)
        if self.config.null:
            z = drop_condition(z, null_condition(z), self.config.null, rng.fold("null"))
        if self.config.predict == "velocity":
            error = self.velocity(x, t, z) - (y - noise)
        else:
            # The same: x_t + (1 − t)(y − ε) = y. Written so, nothing is divided that has to cancel.
            error = (self.network(x, t, z).float() - y) / self._time_left(t)
        return error.square().flatten(1).sum(1)

    def bound(self, y: Tensor, z: Latent, rng: Rng) -> Tensor:
        """(b) an unbiased estimate of the variational bound of −log p(y | z) in nats (`path_bound`)."""
        noise, t = self._noise(rng), bound_times(rng.fold("times"))
        x = self._interpolate(noise, y, t)
        image = self.network(x, t, z).float()
        if self.config.predict == "velocity":
            image = x + image * (1 - t)[:, None, None, None]
        return path_bound((y - image).square().flatten(1).sum(1), t, y[0].numel(), self.config.noise_scale)

    def sample(self, z: Latent, rng: Rng) -> Tensor:
        return self._integrated(lambda x, t: self._guided(x, t, z), rng.fold("noise").normal(*self.image_shape))

    def sample_together(self, z: Latent, noise: Tensor, share: Callable[[Tensor], Tensor], batch: int = 128) -> Tensor:
        """One image for each latent, whose velocities are looked at together at every step (MultiDiffusion, Bar-Tal et al. 2023, for flows).

        Args:
            noise: (b c h w), standard normal; they need not be independent.
            share: velocities (b c h w) → those that are gone along, a function that takes the mean where images overlap, say.
            batch: items a forward pass; the result does not depend on it.
        """

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            rows = [slice(start, start + batch) for start in range(0, len(x), batch)]
            return share(torch.cat([self._guided(x[some], t[some], z.rows(some)) for some in rows]))

        return self._integrated(velocity, noise)

    def _integrated(self, velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor) -> Tensor:
        """standard normal noise (b c h w) → images (b c h w)."""
        drawn = integrate(velocity, self.config.noise_scale * noise, self.config.steps, self.config.solver)
        return drawn.clamp(-1, 1) if self.bounded else drawn

    def _guided(self, x: Tensor, t: Tensor, z: Latent) -> Tensor:
        """`velocity` under classifier-free guidance."""
        scale = self.config.guidance
        if scale == 1:
            return self.velocity(x, t, z)
        return guided(self.velocity(x.repeat(2, 1, 1, 1), t.repeat(2), concatenate_latents(z, null_condition(z))), scale)

    def _noise(self, rng: Rng) -> Tensor:
        return self.config.noise_scale * rng.fold("noise").normal(*self.image_shape)

    def _interpolate(self, noise: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """x_t (b c h w), the point of the path at time t."""
        at = t[:, None, None, None]
        return (1 - at) * noise + at * y

    def _times(self, rng: Rng) -> Tensor:
        """(b) uniform, or logit-normal (Esser et al. 2024, section 3.1)."""
        if self.config.times == "uniform":
            return rng.fold("times").uniform()
        return torch.sigmoid(self.config.times_mean + self.config.times_scale * rng.fold("times").normal())

    def _time_left(self, t: Tensor) -> Tensor:
        """t (b) → 1 − t (b 1 1 1), at least `MIN_TIME_LEFT`."""
        return (1 - t).clamp(min=MIN_TIME_LEFT)[:, None, None, None]


def null_condition(z: Latent) -> Latent:
    """One latent place of zeros: what the network reads in place of a text in classifier-free guidance. The layers' biases make of it what they need."""
    mask = torch.zeros_like(z.mask)
    mask[:, 0] = True
    return Latent(torch.zeros_like(z.tokens), mask, torch.zeros_like(z.pooled))
