"""The losses of a codec. Shapes: b batch, c h w image."""

from __future__ import annotations

from torch import Tensor

from ibllm.plugin import Context, Cycle, Loss
from ibllm_objectives.config import CodecRegularisationConfig, ReconstructionConfig


class Reconstruction(Loss):
    """The mean error of the images after the codec and back: E|ŷ − y| (l1) or E(ŷ − y)² (l2) a number of the image.

    The first term of VQ-VAE's objective (van den Oord et al. 2017, eq. 3); the gradient passes the quantiser straight through. Needs no captions.
    """

    def __init__(self, config: ReconstructionConfig, context: Context) -> None:
        super().__init__()
        self.kind = config.kind

    def forward(self, cycle: Cycle) -> Tensor:
        error = cycle.reconstruction.image - cycle.images
        return error.abs().mean() if self.kind == "l1" else error.square().mean()


class CodecRegularisation(Loss):
    """The mean of `Reconstruction.regularisation`, weighed by the codec's own options.

    Of a vector quantiser E β‖z_e − sg(e)‖², which keeps the encoder's output near its codes (van den Oord et al. 2017, eq. 3, last term), and its codes'
    own term where they learn by gradient; of a variational autoencoder the KL term (Rombach et al. 2022, section 3.1: KL-reg., VQ-reg.).
    """

    def __init__(self, config: CodecRegularisationConfig, context: Context) -> None:
        super().__init__()

    def forward(self, cycle: Cycle) -> Tensor:
        return cycle.reconstruction.regularisation.mean()
