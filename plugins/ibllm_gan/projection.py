"""The projection critic (Miyato and Koyama 2018). Shapes: b batch, c h w image or map, m latent width, o i rows and columns of a weight."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ibllm.plugin import Context, Latent
from ibllm_gan.config import ProjectionCriticConfig
from ibllm_gan.critic import TrunkCritic, check_size

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


class ResidualStage(nn.Module):
    """ReLU, 3×3 convolution, ReLU, 3×3 convolution, average pooling; the shortcut is a 1×1 convolution. The first stage begins without a ReLU."""

    def __init__(self, before: int, after: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.convolve = nn.ModuleList((nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)))
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b before h w) → (b after h/2 w/2)."""
        h = self.convolve[0](x if self.first else F.relu(x))
        h = self.convolve[1](F.relu(h))
        # A 1×1 convolution and a mean over pixels commute; at half the size it costs a quarter.
        out: Tensor = F.avg_pool2d(h, 2) + self.shortcut(F.avg_pool2d(x, 2))
        return out


class ProjectionCritic(TrunkCritic):
    """score(y, z) = ψ(φ(y)) + ⟨V z, φ(y)⟩ (eq. 3), φ the sum over places of a residual network's last map, z the pooled latent."""

    def __init__(self, config: ProjectionCriticConfig, context: Context) -> None:
        super().__init__()
        check_size(config.channels, context.image_shape, 1 << len(config.channels))
        befores = [context.image_shape[0], *config.channels[:-1]]
        self.stages = nn.ModuleList(ResidualStage(a, b, not i) for i, (a, b) in enumerate(zip(befores, config.channels, strict=True)))
        self.project = nn.Linear(config.latent or context.latent, config.channels[-1], bias=False)
        self.score = nn.Linear(config.channels[-1], 1)
        if config.spectral_norm:
            for module in list(self.modules()):
                if isinstance(module, nn.Conv2d | nn.Linear):
                    parametrize.register_parametrization(module, "weight", SpectralNorm(module.weight))

    def judge(self, seen: Tensor, z: Latent) -> Tensor:
        summed = F.relu(seen).sum((2, 3))
        scores: Tensor = self.score(summed).squeeze(1) + (self.project(z.pooled) * summed).sum(1)
        return scores
