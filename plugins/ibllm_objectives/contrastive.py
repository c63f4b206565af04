"""Captions and images find each other in a common space. Shapes: b batch, e width of the common space."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Belonging, Context, Cycle, Latent, Rng, WholeBatchLoss, at_least_float32, belonging, cross_entropy, positives
from ibllm_objectives.config import ContrastiveConfig, ContrastiveSigmoidConfig


def info_nce(x: Tensor, y: Tensor, scale: Tensor, right: Tensor) -> Tensor:
    """(CE(s·xyᵀ, rows) + CE(s·xyᵀ, columns)) / 2 for unit vectors x, y (b e): Radford et al. 2021 (CLIP), figure 3; → ().

    `right` (b b) says which pairs belong together; several of a row, or column, have equal shares.
    """
    logits = scale * (x @ y.T)
    return (cross_entropy(logits, right) + cross_entropy(logits.T, right.T)) / 2


def pairwise_sigmoid(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, right: Tensor) -> Tensor:
    """−1/b · Σ_ij log σ(±(s·x_i·y_j + bias)), + for pairs that belong together (right, b b), for unit vectors x, y (b e) → ().

    Zhai et al. 2023 (SigLIP), eq. 1.
    """
    logits = scale * (x @ y.T) + bias
    signs = 2 * right.to(logits) - 1
    return -F.logsigmoid(signs * logits).sum() / len(x)


class _CommonSpace(WholeBatchLoss):
    def __init__(self, width: int, scale: float, context: Context) -> None:
        super().__init__()
        self.text = nn.Linear(context.latents["text_encoder"], width, bias=False)
        self.image = nn.Linear(context.latents["image_encoder"], width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def represent(self, cycle: Cycle) -> tuple[Tensor, Tensor, Belonging]:
        """The pooled latents of captions and images as unit vectors (b e) each, in full precision; and what says which belong together."""
        return self.text_point(cycle.z_x), self.image_point(cycle.z_y), belonging(cycle)

    def text_point(self, z: Latent) -> Tensor:
        """A caption's latent → unit vectors (b e), in full precision."""
        return F.normalize(at_least_float32(self.text(z.pooled)), dim=-1)

    def image_point(self, z: Latent) -> Tensor:
        """An image's latent → unit vectors (b e), in full precision."""
        return F.normalize(at_least_float32(self.image(z.pooled)), dim=-1)


class Contrastive(_CommonSpace):
    """Symmetric InfoNCE over the batch (`info_nce`), its factor learned as a logarithm and kept at most `largest_scale`.

    Captions of one image, and images of one caption, belong together (`ibllm.plugin.positives`).
    """

    def __init__(self, config: ContrastiveConfig, context: Context) -> None:
        super().__init__(config.width, config.scale, context)
        self.largest = math.log(config.largest_scale)

    def compare(self, together: tuple[Tensor, Tensor, Belonging], rng: Rng) -> Tensor:
        x, y, who = together
        with torch.no_grad():  # the parameter itself, as CLIP does: a clamp in the graph would stop its gradient for good
            self.log_scale.clamp_(max=self.largest)
        return info_nce(x, y, self.log_scale.exp(), positives(who))


class ContrastiveSigmoid(_CommonSpace):
    """Pairwise sigmoid over the batch (`pairwise_sigmoid`), its factor (as a logarithm) and bias learned; positives are as `contrastive` has them."""

    def __init__(self, config: ContrastiveSigmoidConfig, context: Context) -> None:
        super().__init__(config.width, config.scale, context)
        self.bias = nn.Parameter(torch.tensor(config.bias))

    def compare(self, together: tuple[Tensor, Tensor, Belonging], rng: Rng) -> Tensor:
        x, y, who = together
        return pairwise_sigmoid(x, y, self.log_scale.exp(), self.bias, positives(who))
