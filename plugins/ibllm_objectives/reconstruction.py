"""The losses of an image tokenizer. Shapes: b batch, c h w image."""

from __future__ import annotations

from torch import Tensor

from ibllm.plugin import Context, Cycle, Loss
from ibllm_objectives.config import ReconstructionConfig, VQCommitmentConfig


class Reconstruction(Loss):
    """The mean error of the images after the image tokenizer and back: E|ŷ − y| (l1) or E(ŷ − y)² (l2) a number of the image.

    The first term of VQ-VAE's objective (van den Oord et al. 2017, eq. 3); the gradient passes the quantiser straight through. Needs no captions.
    """

    def __init__(self, config: ReconstructionConfig, context: Context) -> None:
        super().__init__()
        self.kind = config.kind

    def forward(self, cycle: Cycle) -> Tensor:
        error = cycle.reconstruction.image - cycle.images
        return error.abs().mean() if self.kind == "l1" else error.square().mean()


class VQCommitment(Loss):
    """E β‖z_e − sg(e)‖², which keeps the encoder's output near its codes (van den Oord et al. 2017, eq. 3, last term).

    The quantiser weighs it (its option β), and adds its codes' own term where they learn by gradient.
    """

    def __init__(self, config: VQCommitmentConfig, context: Context) -> None:
        super().__init__()

    def forward(self, cycle: Cycle) -> Tensor:
        return cycle.reconstruction.commitment.mean()
