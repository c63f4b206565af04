"""What a critic is shown: real images, and drawn or reconstructed ones. Shapes: b batch, c h w image, d latent width."""

from __future__ import annotations

import torch
from torch import Tensor

from ibllm.plugin import Context, Cycle, Latent


class Judged:
    """The images of a loss, by its option ``of``.

    Drawings are judged beside the real images of their captions, with the captions' latents. A codec's reconstructions are judged beside the images themselves
    (unpaired ones too), as in VQGAN (Esser et al. 2021): no text goes with them, so the critic reads one empty place.
    """

    def __init__(self, of: str, context: Context) -> None:
        self.reconstruction, self.width = of == "reconstruction", context.latents.get("text_encoder", context.width)

    def real(self, cycle: Cycle) -> Tensor:
        """(b c h w)."""
        return cycle.images if self.reconstruction else cycle.y

    def fake(self, cycle: Cycle) -> Tensor:
        """(b c h w), with its graph."""
        return cycle.reconstruction.image if self.reconstruction else cycle.y_fake

    def z(self, cycle: Cycle) -> Latent:
        """The latents that both are judged with, without their graph."""
        if not self.reconstruction:
            return cycle.z_x.detach()
        y = self.real(cycle)
        mask = torch.ones(len(y), 1, dtype=torch.bool, device=y.device)
        return Latent(y.new_zeros(len(y), 1, self.width), mask, y.new_zeros(len(y), self.width))
