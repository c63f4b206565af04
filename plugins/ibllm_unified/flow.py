"""D_y by a rectified flow over continuous patches. Shapes: b batch, c h w image (or a codec's latents), m patches, p numbers of a patch, d width."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from ibllm.plugin import (
    MIN_TIME_LEFT,
    TIMESTEP_WIDTH,
    Context,
    Latent,
    Rng,
    bound_times,
    concatenate_latents,
    guided,
    integrate,
    path_bound,
    timestep_embedding,
)
from ibllm_unified.config import UnifiedImageDecoderConfig
from ibllm_unified.sequence import Order, Piece
from ibllm_unified.writing import WholeImage, Writer, null_condition


class FlowWriter(Writer):
    """[text][draw][patches]: causal over the text, both ways within the image (Zhou et al. 2024, Transfusion).

    The path from noise ε to image y is x_t = (1 − t)ε + t·y (Liu, Gong and Liu 2023). The image's places carry x_t and t and predict y, from which the
    velocity (ŷ − x_t) / (1 − t) follows.
    """

    def __init__(self, config: UnifiedImageDecoderConfig, context: Context) -> None:
        c, height, width = context.image_shape
        if height % config.patch or width % config.patch:
            raise ValueError(f"patch = {config.patch}: expected a divisor of the height {height} and the width {width} of what is drawn")
        super().__init__(config, context, height // config.patch, width // config.patch)
        self.image_shape, self.bounded, wide = context.image_shape, context.bounded, self.backbone.width
        self.patches = nn.Linear(c * config.patch**2, wide)
        self.time = nn.Sequential(nn.Linear(TIMESTEP_WIDTH, wide), nn.SiLU(), nn.Linear(wide, wide))
        self.head = nn.Linear(wide, c * config.patch**2)

    def nll(self, y: Tensor, z: Latent, rng: Rng) -> Tensor:
        """(b) in train mode ‖v(x_t, t | z) − (y − ε)‖², in evaluation mode a bound of −log p(y | z) in nats (`path_bound`)."""
        return super().nll(y, z, rng)

    def order(self, y: Tensor, z: Latent, rng: Rng) -> Order:
        noise, times = self._noise(rng), rng.fold("times")
        normal = self.config.times_mean + self.config.times_scale * times.normal() if self.training else None
        t = bound_times(times) if normal is None else torch.sigmoid(normal)
        x = (1 - t)[:, None, None, None] * noise + t[:, None, None, None] * y

        def nll(hidden: Tensor) -> Tensor:
            error = (self._predicted(hidden) - y).square().flatten(1).sum(1)
            if not self.training:
                return path_bound(error, t, y[0].numel(), self.config.noise_scale)
            # x_t + (1 − t)(y − ε) = y: the velocity's error is that of ŷ over 1 − t.
            return error / _time_left(t).square()

        before = [self._text(self._condition(z, rng)), self.backbone.task("draw", len(z))]
        return Order([*before, self._noisy(x, t)], 2, nll)

    def sample(self, z: Latent, rng: Rng) -> Tensor:
        config, guide = self.config, self.config.guidance != 1
        read = WholeImage(self, concatenate_latents(z, null_condition(z)) if guide else z)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            image = self._noisy(x.repeat(2, 1, 1, 1), t.repeat(2)) if guide else self._noisy(x, t)
            predicted = self._predicted(read(image))
            predicted = guided(predicted, config.guidance) if guide else predicted
            return (predicted - x) / _time_left(t)[:, None, None, None]

        drawn = integrate(velocity, self._noise(rng), config.steps, config.solver)
        return drawn.clamp(-1, 1) if self.bounded else drawn

    def _noise(self, rng: Rng) -> Tensor:
        return self.config.noise_scale * rng.fold("noise").normal(*self.image_shape)

    def _noisy(self, x: Tensor, t: Tensor) -> Piece:
        """x (b c h w) at times t (b)."""
        side = self.config.patch
        patches = rearrange(x, "b c (r u) (s v) -> b (r s) (c u v)", u=side, v=side)
        return self._image(self.patches(patches) + self.time(timestep_embedding(t))[:, None])

    def _predicted(self, hidden: Tensor) -> Tensor:
        """hidden (b m d) → the end of the path (b c h w), in float32."""
        side = self.config.patch
        return rearrange(self.head(hidden).float(), "b (r s) (c u v) -> b c (r u) (s v)", r=self.rows, u=side, v=side)


def _time_left(t: Tensor) -> Tensor:
    """t (b) → 1 − t, at least `MIN_TIME_LEFT`."""
    return (1 - t).clamp(min=MIN_TIME_LEFT)
