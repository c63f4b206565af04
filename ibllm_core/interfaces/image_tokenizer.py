"""An image tokenizer: image ↔ discrete tokens, for token decoders. Shapes: b batch, c h w image, m tokens = rows·columns."""

from __future__ import annotations

from abc import ABC, abstractmethod

import attrs
from torch import Tensor, nn


@attrs.define(eq=False, slots=False)
class Reconstruction:
    """An image through its tokens and back, differentiable (past the rounding straight through).

    Attributes:
        image: (b c h w) in [−1, 1].
        commitment: (b) what the quantiser adds to the reconstruction error, already weighted; zeros where it asks for nothing.
        ids: (b m).
    """

    image: Tensor
    commitment: Tensor
    ids: Tensor


class ImageTokenizer(nn.Module, ABC):
    """Image ↔ discrete tokens; trained by losses that ask the cycle for `reconstruction`, frozen where a token decoder is trained."""

    #: Number of different tokens.
    vocabulary: int
    #: Rows and columns of the grid of tokens; ids are in row-major order.
    grid: tuple[int, int]

    @abstractmethod
    def encode(self, y: Tensor) -> Tensor:
        """y (b c h w) in [−1, 1] → ids (b m)."""

    @abstractmethod
    def decode(self, ids: Tensor) -> Tensor:
        """ids (b m) → image (b c h w) in [−1, 1]."""

    @abstractmethod
    def reconstruct(self, y: Tensor) -> Reconstruction:
        """y (b c h w) in [−1, 1] → what is left of it. In train mode a quantiser may keep count of its codes and restart dead ones."""

    def forward(self, y: Tensor) -> Reconstruction:
        return self.reconstruct(y)
