"""Spectral normalisation (Miyato et al. 2018). Shapes: o i rows and columns of a weight."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

#: Power iterations before training; every forward pass in train mode makes one more.
INITIAL_ITERATIONS = 15


class SpectralNorm(nn.Module):
    """weight ↦ weight / σ, σ = uᵀ W v its largest singular value by power iteration (Miyato et al. 2018, algorithm 1).

    Gradients flow through W in σ, not through u and v (eq. 11). The vector u is a buffer that takes a step at every pass in train mode, from the
    weights alone: results do not depend on the batch. Products are sums of terms, which autocast leaves in float32: rounded, σ would be off.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.u: Tensor
        self.register_buffer("u", F.normalize(torch.randn(weight.shape[0]), dim=0))
        for _ in range(INITIAL_ITERATIONS):
            self._iterate(weight.detach().flatten(1))

    def _iterate(self, matrix: Tensor) -> None:
        self.u.copy_(F.normalize((matrix * self._right(matrix)).sum(1), dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        with torch.no_grad():
            if self.training:
                self._iterate(matrix)
            v = self._right(matrix)
        u = self.u.clone()  # which a later pass changes while this one's graph holds it
        return weight / (u[:, None] * matrix * v).sum()

    def _right(self, matrix: Tensor) -> Tensor:
        """(i) v, the unit vector along Wᵀ u."""
        return F.normalize((self.u[:, None] * matrix).sum(0), dim=0)


def normalise(module: nn.Module) -> None:
    """Every convolution's and linear map's weight is divided by its largest singular value; one that starts at 0 has none, and is left as it is."""
    for layer in list(module.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear) and (layer.weight.is_meta or bool(layer.weight.any())):
            parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))
