"""C, the critic. Shapes: b batch, c h w image, d latent width."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from .latent import Latent


class Discriminator(nn.Module, ABC):
    """Scores how well an image is real and belongs to a latent; higher is better, without a sigmoid."""

    @abstractmethod
    def forward(self, y: Tensor, z: Latent) -> Tensor:
        """y (b c h w) in [−1, 1], latent → scores (b). Twice differentiable in y and z."""
