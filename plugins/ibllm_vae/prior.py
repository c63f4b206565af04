"""p(u | x): a flow that draws where the places lie, given the text.

Shapes: b batch, t tokens of the text, n places, d width, k numbers of a place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibllm.plugin import TIMESTEP_WIDTH, Context, Latent, Rng, attention_bias, bound_times, path_bound, timestep_embedding
from ibllm_vae.config import FlowVAEConfig
from ibllm_vae.places import ReadingLayer, normal_by_place

#: Numbers of a place are described by themselves and by waves of these angular frequencies.
FREQUENCIES = (1.0, 2.0, 4.0, 8.0)


class FlowPrior(nn.Module):
    """Rectified flow (Liu, Gong and Liu 2023) over the places' numbers: a transformer over places that sees their content and, for slots, the words."""

    def __init__(self, config: FlowVAEConfig, context: Context) -> None:
        super().__init__()
        latent, width, self.numbers = config.latent or context.latent, config.prior_width or context.width, 2 + config.extra
        self.config = config
        self.enter, self.content = nn.Linear(self.numbers * (1 + 2 * len(FREQUENCIES)), width), nn.Linear(latent, width)
        self.time = nn.Sequential(nn.Linear(TIMESTEP_WIDTH, width), nn.SiLU(), nn.Linear(width, width))
        text = latent if config.places == "slots" else None  # words have read the text themselves
        self.layers = nn.ModuleList(ReadingLayer(width, config.heads, config.ratio, text) for _ in range(config.prior_depth))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.numbers))

    def velocity(self, u: Tensor, time: Tensor, c: Latent, z: Latent) -> Tensor:
        """u (b n k) at times (b) in [0, 1], the places' content c (b n d), the latent z (b t d) → (b n k), float32."""
        angles = torch.cat([u * f for f in FREQUENCIES], -1)
        x = self.enter(torch.cat([u, angles.sin(), angles.cos()], -1)) + self.content(c.tokens)
        x = x + self.time(timestep_embedding(time))[:, None]
        own, text = attention_bias(c.mask, x), attention_bias(z.mask, x)
        for layer in self.layers:
            x = layer(x, own, z, text)
        out: Tensor = self.leave(x).float()
        return out

    def objective(self, u: Tensor, c: Latent, z: Latent, rng: Rng) -> Tensor:
        """(b) ‖v(u_t, t) − (u − ε)‖² a number of a place, summed over places, for one t and one ε (Lipman et al. 2023, eq. 23); t is logit-normal
        (Esser et al. 2024, section 3.1)."""
        noise, time = normal_by_place(rng.fold("noise"), u.shape[1], self.numbers), torch.sigmoid(rng.fold("times").normal())
        error = (self.velocity(self._on_path(u, noise, time), time, c, z) - (u - noise)).square().mean(-1)
        return (error * c.mask).sum(1)

    def bound(self, u: Tensor, c: Latent, z: Latent, rng: Rng) -> Tensor:
        """(b) an unbiased estimate of the variational bound of −log p(u | x) in nats (`path_bound`)."""
        noise, time = normal_by_place(rng.fold("noise"), u.shape[1], self.numbers), bound_times(rng.fold("times"))
        x, left = self._on_path(u, noise, time), (1 - time)[:, None, None]
        error = ((x + left * self.velocity(x, time, c, z) - u).square().sum(-1) * c.mask).sum(1)
        return path_bound(error, time, self.numbers * c.mask.sum(1))

    @torch.no_grad()
    def sample(self, c: Latent, z: Latent, rng: Rng) -> Tensor:
        """(b n k) by Heun's method, the last step by Euler's."""
        steps = self.config.steps
        u = self.config.temperature * normal_by_place(rng, c.tokens.shape[1], self.numbers)
        for step in range(steps):
            time = torch.full((len(u),), step / steps, device=u.device)
            velocity = self.velocity(u, time, c, z)
            if step + 1 < steps:
                velocity = (velocity + self.velocity(u + velocity / steps, time + 1 / steps, c, z)) / 2
            u = u + velocity / steps
        return u

    @staticmethod
    def _on_path(u: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        at = time[:, None, None]
        return (1 - at) * noise + at * u
