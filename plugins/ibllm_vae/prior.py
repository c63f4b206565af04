"""p(u | x): a flow that draws where the places lie, given the text.

Shapes: b batch, t tokens of the text, n places, d width, k numbers of a place.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ibllm.plugin import Context, Latent, Rng, attention_bias
from ibllm_vae.config import FlowVAEConfig
from ibllm_vae.places import ReadingLayer, normal_by_place

#: Numbers of a place are described by themselves and by waves of these angular frequencies; times by as many waves as TIME_WAVES.
FREQUENCIES, TIME_WAVES, GREATEST_FREQUENCY = (1.0, 2.0, 4.0, 8.0), 32, 200.0
#: The least of a path that is left when the bound stops, as in `flow`.
MIN_TIME_LEFT = 0.05


class FlowPrior(nn.Module):
    """Rectified flow (Liu, Gong and Liu 2023) over the places' numbers: a transformer over places that sees their content and, for slots, the words."""

    def __init__(self, config: FlowVAEConfig, context: Context) -> None:
        super().__init__()
        latent, width, self.numbers = config.latent or context.latent, config.prior_width or context.width, 2 + config.extra
        self.steps = config.steps
        self.enter, self.content = nn.Linear(self.numbers * (1 + 2 * len(FREQUENCIES)), width), nn.Linear(latent, width)
        self.time = nn.Sequential(nn.Linear(2 * TIME_WAVES, width), nn.SiLU(), nn.Linear(width, width))
        text = latent if config.places == "slots" else None  # words have read the text themselves
        self.layers = nn.ModuleList(ReadingLayer(width, config.heads, config.ratio, text) for _ in range(config.prior_depth))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.numbers))
        frequencies = torch.exp(torch.linspace(0, math.log(GREATEST_FREQUENCY), TIME_WAVES))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def velocity(self, u: Tensor, time: Tensor, c: Latent, z: Latent) -> Tensor:
        """u (b n k) at times (b) in [0, 1], the places' content c (b n d), the latent z (b t d) → (b n k), float32."""
        angles, times = torch.cat([u * f for f in FREQUENCIES], -1), time[:, None] * self.frequencies
        x = self.enter(torch.cat([u, angles.sin(), angles.cos()], -1)) + self.content(c.tokens)
        x = x + self.time(torch.cat([times.cos(), times.sin()], 1))[:, None]
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
        """(b) an unbiased estimate, from one t and one ε, of the variational bound of −log p(u | x) in nats (Kingma et al. 2021, eqs. 11–15).

        ½ ∫ SNR'(t) ‖u − û(u_t, t)‖² dt up to t = 1 − `MIN_TIME_LEFT`, with SNR(t) = t² / (1 − t)², and the entropy of the noise that is left there.
        1 − t is drawn log-uniformly.
        """
        span = -math.log(MIN_TIME_LEFT)
        noise, time = normal_by_place(rng.fold("noise"), u.shape[1], self.numbers), 1 - (-span * rng.fold("times").uniform()).exp()
        x, left = self._on_path(u, noise, time), (1 - time)[:, None, None]
        error = ((x + left * self.velocity(x, time, c, z) - u).square().sum(-1) * c.mask).sum(1)
        rest = self.numbers / 2 * math.log(2 * math.pi * math.e * (MIN_TIME_LEFT / (1 - MIN_TIME_LEFT)) ** 2)
        return span * time / (1 - time).square() * error + rest * c.mask.sum(1)

    @torch.no_grad()
    def sample(self, c: Latent, z: Latent, rng: Rng) -> Tensor:
        """(b n k) by Heun's method, the last step by Euler's."""
        u = normal_by_place(rng, c.tokens.shape[1], self.numbers)
        for step in range(self.steps):
            time = torch.full((len(u),), step / self.steps, device=u.device)
            velocity = self.velocity(u, time, c, z)
            if step + 1 < self.steps:
                velocity = (velocity + self.velocity(u + velocity / self.steps, time + 1 / self.steps, c, z)) / 2
            u = u + velocity / self.steps
        return u

    @staticmethod
    def _on_path(u: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        at = time[:, None, None]
        return (1 - at) * noise + at * u
