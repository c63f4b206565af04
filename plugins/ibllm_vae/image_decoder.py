"""D_y with a posterior over its noise.

Shapes: b batch, c h w image, n places, m width of the latent, k numbers of a place.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, DrawingDecoder, Latent, Rng, generalised_normal, log
from ibllm_vae.config import FlowVAEConfig
from ibllm_vae.drawing import PlacedDrawing
from ibllm_vae.places import Slots, normal_by_place
from ibllm_vae.posterior import Posterior, Seen
from ibllm_vae.prior import FlowPrior


class FlowVAE(DrawingDecoder):
    """A conditional variational autoencoder (Sohn, Lee and Yan 2015) whose prior is a flow that sees the text.

    u (b n k) is what the text leaves open: two coordinates for each place, and `extra` further numbers. In training u comes from q(u | y, x), the posterior,
    which looks at the image, so that the drawing has to commit to what is there instead of averaging over what might be. In use it comes from p(u | x).
    A stage that trains ``image_decoder.prior`` alone fits the prior to a posterior that stays as it is.
    """

    checkpointed = ("drawing.form.layers", "drawing.shade.layers", "prior.layers")

    def __init__(self, config: FlowVAEConfig, context: Context) -> None:
        super().__init__()
        self.config, self.noise_width = config, 2 + config.extra
        latent = config.latent or context.latent
        slots = config.places == "slots"
        self.slots = Slots(config.slots, config.slot_depth, config.heads, config.ratio, latent) if slots else None
        self.styles = nn.Linear(config.extra, latent, bias=False) if config.extra else None
        self.posterior, self.drawing, self.prior = Posterior(config, context), PlacedDrawing(config, context), FlowPrior(config, context)

    def content(self, z: Latent) -> Latent:
        """latent (b t m) → what is in the places (b n m): its words, or slots that have read it."""
        return z if self.slots is None else self.slots(z)

    def noise(self, z: Latent, rng: Rng) -> Tensor:
        """(b n k) where the places lie, drawn from p(u | x) without a gradient."""
        return self.prior.sample(self.content(z), z, rng)

    def draw(self, z: Latent, noise: Tensor) -> Tensor:
        return self._draw(self.content(z), noise)

    def _draw(self, c: Latent, u: Tensor) -> Tensor:
        if self.styles is not None:
            c = Latent(c.tokens + self.styles(u[..., 2:]), c.mask, c.pooled)
        drawn: Tensor = self.drawing(c, u[..., :2])
        return drawn

    def likelihood(self, y: Tensor, drawn: Tensor) -> Tensor:
        return generalised_normal(y, drawn, self.config.scale, self.config.exponent, self.config.focus)

    def nll(self, y: Tensor, z: Latent, rng: Rng) -> Tensor:
        """(b) in evaluation mode the negative evidence lower bound of log p(y | z) up to the likelihood's constant, in nats: −log p(y | u, z) − log p(u | z)
        + log q(u | y, z) for one u, with the prior's own bound.

        In train mode what is minimised instead: −log p(y | u, z) + β·KL(q ‖ N(0, 1)) + the grounding + the prior's objective, which sends no gradient into the
        posterior. Where the prior alone is trained, its objective.
        """
        c, rng = self.content(z), rng.fold("posterior")
        seen = self.posterior(y, c)
        u = seen.mean + (0.5 * seen.log_variance).exp() * normal_by_place(rng, seen.mean.shape[1], self.noise_width)
        if self.prior.training and not self.training:
            return self.prior.objective(u, c, z, rng.fold("prior"))
        reconstruction = self.likelihood(y, self._draw(c, u))
        if not self.training:
            entropy = ((1 + math.log(2 * math.pi) + seen.log_variance).sum(-1) * c.mask).sum(1) / 2
            return reconstruction + self.prior.bound(u, c, z, rng.fold("prior")) - entropy
        terms = {
            "reconstruction": reconstruction,
            "kl": self.config.kl * divergence(seen, c.mask),
            "prior": self.prior.objective(u.detach(), c, z, rng.fold("prior")),
        }
        if self.config.grounding:
            terms["grounding"] = self.config.grounding * self._grounding(y, seen)
        for name, term in terms.items():
            log(name, term.mean())
        total: Tensor = sum(terms.values())  # type: ignore[assignment]
        return total

    def _grounding(self, y: Tensor, seen: Seen) -> Tensor:
        """(b) −log p of the coarse image, whose every point stands for as many pixels as it is the mean of."""
        stride = self.posterior.stride
        return stride**2 * generalised_normal(
            F.avg_pool2d(y, stride), seen.coarse, self.config.scale, self.config.exponent, self.config.focus, reach=0
        )


def divergence(seen: Seen, mask: Tensor) -> Tensor:
    """(b) KL(q ‖ N(0, 1)) in nats over the places that are there (Kingma and Welling 2014, appendix B)."""
    terms = 0.5 * (seen.mean.square() + seen.log_variance.exp() - 1 - seen.log_variance)
    return (terms.sum(-1) * mask).sum(1)
