"""C, the critic. Shapes: b batch, c h w image, d latent width, p patches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from .latent import Latent


class Discriminator(nn.Module, ABC):
    """Scores how well an image is real and belongs to a latent; higher is better, without a sigmoid."""

    @abstractmethod
    def forward(self, y: Tensor, z: Latent) -> Tensor:
        """y (b c h w) in [−1, 1], latent → scores (b), or (b p) of a critic that judges each patch by itself; losses average over them.

        Twice differentiable in y and z where the capability ``second_order`` is declared. No item's score depends on the others of the batch.
        """

    def look(self, y: Tensor) -> Any:
        """What the critic sees in an image (by default itself): kept while one player plays, so that a second text costs no second look."""
        return y

    def judge(self, seen: Any, z: Latent) -> Tensor:
        """Scores of what `look` gave: ``judge(look(y), z)`` is ``forward(y, z)``."""
        scores: Tensor = self(seen, z)
        return scores
