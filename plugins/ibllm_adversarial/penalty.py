"""Penalties on the critic's gradient. Shapes: b batch, c h w image, p patches, n latent places, d latent width, g numbers of a gradient."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ibllm.plugin import Context, CriticLoss, Cycle, Latent, at_least_float32
from ibllm_adversarial.config import GradientPenaltyConfig, MatchingAwarePenaltyConfig
from ibllm_adversarial.judged import Judged


def score_gradients(cycle: Cycle, y: Tensor, z: Latent, forms: Sequence[str] = ()) -> Tensor:
    """(b g) each item's gradient of its score by the image, and by the latent's `forms` (``tokens``, ``pooled``), flat, with its graph.

    Nothing flows back to who made y and z. A critic's score is the mean of its patches; a form that it does not read adds no numbers.
    """
    y, z = _leaf(y), attrs.evolve(z.detach(), **{form: _leaf(getattr(z, form)) for form in forms})
    wanted = [y, *(getattr(z, form) for form in forms)]
    # Fused attention has no second derivative on a CPU, so the plain kernel is used.
    with sdpa_kernel(SDPBackend.MATH):
        scores = cycle.score(y, z)
    # No item's score depends on another's, so one backward pass gives every item its own gradient.
    total = scores.flatten(1).mean(1).sum() if scores.dim() > 1 else scores.sum()
    found = torch.autograd.grad(total, wanted, create_graph=True, allow_unused=bool(forms))
    wide = [at_least_float32(gradient) for gradient in found if gradient is not None]
    return torch.cat([gradient.flatten(1) for gradient in wide], 1)


def _leaf(found: Tensor) -> Tensor:
    return found.detach().clone().requires_grad_(True)


class GradientPenalty(CriticLoss):
    """γ/2·(R1 + R2), R = E‖∇C‖² at real images (R1, Mescheder et al. 2018, eq. 9) and at generated ones (R2), as R3GAN adds them.

    ∇ is by the image, or by image and latent (tokens and pooled vector) together; norms are over everything of one item.
    """

    def __init__(self, config: GradientPenaltyConfig, context: Context) -> None:
        super().__init__()
        self.config, self.judged = config, Judged(config.of, context)

    def critic(self, cycle: Cycle) -> Tensor:
        images = {"real": self.judged.real, "generated": self.judged.fake}
        squares = {where: self.squared_gradient(cycle, images[where](cycle)).mean() for where in self.config.at}
        for where, square in squares.items():
            cycle.log(f"squared_slope_{where}", square)
        return self.config.gamma / 2 * torch.stack([*squares.values()]).sum()

    def squared_gradient(self, cycle: Cycle, y: Tensor) -> Tensor:
        """(b) ‖∇C‖² at images y (b c h w), with its graph."""
        forms = ("tokens", "pooled") if self.config.by == "image+latent" else ()
        return score_gradients(cycle, y, self.judged.z(cycle), forms).square().sum(1)


class MatchingAwarePenalty(CriticLoss):
    """k·E‖[∇_y C, ∇_z C]‖₂^p at real images with their own captions (DF-GAN: Tao et al. 2022, section 3.3; k = 2, p = 6).

    The norm is that of both gradients together, as in the authors' code; the paper writes the sum of the two norms.

    Real pairs are the only points where the critic's surface must be flat: a generated or mismatched pair finds a slope towards them.
    """

    def __init__(self, config: MatchingAwarePenaltyConfig, context: Context) -> None:
        super().__init__()
        self.config = config

    def critic(self, cycle: Cycle) -> Tensor:
        found = score_gradients(cycle, cycle.y, cycle.z_x, self.config.by)
        squares = found.square().sum(1)
        cycle.log("squared_slope_real", squares.mean())
        return self.config.scale * squares.pow(self.config.exponent / 2).mean()
