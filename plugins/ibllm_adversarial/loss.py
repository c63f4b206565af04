"""A critic against the drawing decoder. Shapes: b batch, c h w image, n latent places, d latent width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ibllm_adversarial.config import GradientPenaltyConfig, RelativisticConfig
from ibllm_core.cycle import Cycle
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.loss import AdversarialLoss, CriticLoss


class Relativistic(AdversarialLoss):
    """The relativistic pairing loss of R3GAN (Huang et al. 2024, eq. 2; Jolicoeur-Martineau 2019), each image with its caption's latent.

    Critic: softplus(−(C(y, z) − C(y_fake, z))), and with the weight `mismatched` softplus(−(C(y, z) − C(y, z'))) for the latent z'
    of another item of the batch (matching-aware: Reed et al. 2016). Model: softplus(−(C(y_fake, z) − C(y, z))).
    """

    def __init__(self, config: RelativisticConfig, context: Context) -> None:
        super().__init__()
        self.mismatched = config.mismatched

    def critic(self, cycle: Cycle) -> Tensor:
        z = cycle.z_x.detach()
        real = cycle.score(cycle.y, z)
        value = F.softplus(cycle.score(cycle.y_fake.detach(), z) - real).mean()
        if self.mismatched:
            value = value + self.mismatched * F.softplus(cycle.score(cycle.y, z.roll()) - real).mean()
        return value

    def forward(self, cycle: Cycle) -> Tensor:
        z = cycle.z_x.detach()
        with torch.no_grad():  # nothing of the model is behind the real image's score
            real = cycle.score(cycle.y, z)
        return F.softplus(real - cycle.score(cycle.y_fake, z)).mean()


class GradientPenalty(CriticLoss):
    """γ/2·(R1 + R2), R = E‖∇C‖² at real images (R1, Mescheder et al. 2018, eq. 9) and at generated ones (R2), as R3GAN adds them.

    ∇ is by the image, or by image and latent (tokens and pooled vector) together; norms are over everything of one item.
    """

    def __init__(self, config: GradientPenaltyConfig, context: Context) -> None:
        super().__init__()
        self.config = config

    def critic(self, cycle: Cycle) -> Tensor:
        names = [{"real": "y", "generated": "y_fake"}[where] for where in self.config.at]
        return self.config.gamma / 2 * torch.stack([self.squared_gradient(cycle, name).mean() for name in names]).sum()

    def squared_gradient(self, cycle: Cycle, image: str) -> Tensor:
        """(b) ‖∇C‖² at the image `image` (``y`` or ``y_fake``), with its graph."""
        y = cycle.leaf(image)
        by_latent = self.config.by == "image+latent"
        z = cycle.leaf_latent("z_x") if by_latent else cycle.z_x.detach()
        wanted = [y, z.tokens, z.pooled] if by_latent else [y]
        scores = cycle.score_twice_differentiable(y, z)
        # A critic may read only one of the latent's two forms.
        found = torch.autograd.grad(scores.sum(), wanted, create_graph=True, allow_unused=by_latent)
        return torch.stack([gradient.square().flatten(1).sum(1) for gradient in found if gradient is not None]).sum(0)
