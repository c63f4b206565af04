"""The projection critic (Miyato and Koyama 2018). Shapes: b batch, c h w image or map, m latent width."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, Latent
from ibllm_gan.config import ProjectionCriticConfig
from ibllm_gan.critic import TrunkCritic, check_size


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
        self.complete(config, config.channels[-1])

    def judge(self, seen: Tensor, z: Latent) -> Tensor:
        summed = F.relu(seen).sum((2, 3))
        scores: Tensor = self.score(summed).squeeze(1) + (self.project(z.pooled) * summed).sum(1)
        return scores
