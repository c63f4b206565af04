"""Captions and images find each other in a common space. Shapes: b batch, e width of the common space."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, Cycle, Latent, Rng, WholeBatchLoss, at_least_float32
from ibllm_objectives.config import ContrastiveConfig, ContrastiveSigmoidConfig


def info_nce(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """(CE(s·xyᵀ, rows) + CE(s·xyᵀ, columns)) / 2 for unit vectors x, y (b e): Radford et al. 2021 (CLIP), figure 3; → ()."""
    logits = scale * (x @ y.T)
    own = torch.arange(len(x), device=x.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def pairwise_sigmoid(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """−1/b · Σ_ij log σ(±(s·x_i·y_j + bias)), + for i = j, for unit vectors x, y (b e): Zhai et al. 2023 (SigLIP), eq. 1; → ()."""
    logits = scale * (x @ y.T) + bias
    signs = 2 * torch.eye(len(x), dtype=logits.dtype, device=logits.device) - 1
    return -F.logsigmoid(signs * logits).sum() / len(x)


class _CommonSpace(WholeBatchLoss):
    def __init__(self, width: int, scale: float, context: Context) -> None:
        super().__init__()
        self.text = nn.Linear(context.latents["text_encoder"], width, bias=False)
        self.image = nn.Linear(context.latents["image_encoder"], width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def represent(self, cycle: Cycle) -> tuple[Tensor, Tensor]:
        """The pooled latents of captions and images as unit vectors (b e) each, in full precision."""
        return self.text_point(cycle.z_x), self.image_point(cycle.z_y)

    def text_point(self, z: Latent) -> Tensor:
        """A caption's latent → unit vectors (b e), in full precision."""
        return F.normalize(at_least_float32(self.text(z.pooled)), dim=-1)

    def image_point(self, z: Latent) -> Tensor:
        """An image's latent → unit vectors (b e), in full precision."""
        return F.normalize(at_least_float32(self.image(z.pooled)), dim=-1)


class Contrastive(_CommonSpace):
    """Symmetric InfoNCE over the batch (`info_nce`), its factor learned as a logarithm and kept at most `largest_scale`.

    Two items of a batch with the same caption count as mismatched.
    """

    def __init__(self, config: ContrastiveConfig, context: Context) -> None:
        super().__init__(config.width, config.scale, context)
        self.largest = math.log(config.largest_scale)

    def compare(self, together: tuple[Tensor, Tensor], rng: Rng) -> Tensor:
        with torch.no_grad():  # the parameter itself, as CLIP does: a clamp in the graph would stop its gradient for good
            self.log_scale.clamp_(max=self.largest)
        return info_nce(*together, self.log_scale.exp())


class ContrastiveSigmoid(_CommonSpace):
    """Pairwise sigmoid over the batch (`pairwise_sigmoid`), its factor (as a logarithm) and bias learned."""

    def __init__(self, config: ContrastiveSigmoidConfig, context: Context) -> None:
        super().__init__(config.width, config.scale, context)
        self.bias = nn.Parameter(torch.tensor(config.bias))

    def compare(self, together: tuple[Tensor, Tensor], rng: Rng) -> Tensor:
        return pairwise_sigmoid(*together, self.log_scale.exp(), self.bias)
