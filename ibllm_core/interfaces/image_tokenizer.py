"""An image tokenizer: image ↔ discrete tokens, for token decoders. Shapes: b batch, c h w image, n places."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class ImageTokenizer(nn.Module, ABC):
    """Image ↔ discrete tokens."""

    #: Number of different tokens.
    vocabulary: int
    #: n, tokens an image.
    places: int

    @abstractmethod
    def encode(self, y: Tensor) -> Tensor:
        """y (b c h w) in [−1, 1] → ids (b n)."""

    @abstractmethod
    def decode(self, ids: Tensor) -> Tensor:
        """ids (b n) → image (b c h w) in [−1, 1]."""

    @abstractmethod
    def nll(self, y: Tensor) -> Tensor:
        """(b) what the tokenizer itself minimises: reconstruction and its own regularisers."""
