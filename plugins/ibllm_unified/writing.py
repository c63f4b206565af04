"""What the three ways to write an image share: the text before it, and guidance. Shapes: b batch, n latent places, d width."""

from __future__ import annotations

from abc import abstractmethod
from typing import cast

import attrs
import torch
from torch import Tensor, nn

from ibllm.plugin import Context, GridPositions, ImageDecoder, Latent, Rng, borrow, drop_condition
from ibllm_unified.backbone import SequenceBackbone
from ibllm_unified.config import UnifiedImageDecoderConfig
from ibllm_unified.sequence import Order, Piece, grid_coordinates, text_coordinates


class Writer(ImageDecoder):
    """Reads the text's places, then the image's, `rows` × `columns` of them. Latents of another width than the backbone's enter by a linear layer."""

    backbone: SequenceBackbone

    def __init__(self, config: UnifiedImageDecoderConfig, context: Context, rows: int, columns: int) -> None:
        super().__init__()
        borrow(self, backbone=cast(SequenceBackbone, context.shared[config.backbone]))
        self.config, self.rows, self.columns, self.places = config, rows, columns, rows * columns
        latent, width = config.latent or context.latent, self.backbone.width
        self.enter = nn.Identity() if latent == width else nn.Linear(latent, width)
        self.positions = GridPositions(rows, columns, width)

    @abstractmethod
    def order(self, y: Tensor, z: Latent, rng: Rng) -> Order:
        """The sequence whose last piece's hidden states give `nll`."""

    def nll(self, y: Tensor, z: Latent, rng: Rng) -> Tensor:
        order = self.order(y, z, rng)
        return order.finish(self.backbone.hidden([order])[0])

    def _text(self, z: Latent) -> Piece:
        return Piece(self.enter(z.tokens), z.mask, text_coordinates(z.tokens.shape[1], z.tokens.device))

    def _image(self, x: Tensor) -> Piece:
        """x (b k d), the image's first k places."""
        x = x + self.positions()[: x.shape[1]]
        return Piece(x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device), self.grid(x)[: x.shape[1]])

    def grid(self, x: Tensor) -> Tensor:
        """(places 3) on the device of x."""
        return grid_coordinates(self.rows, self.columns, x.device)

    def _condition(self, z: Latent, rng: Rng) -> Latent:
        """The text, or nothing where condition dropout leaves it out."""
        dropped = self.training and self.config.null
        return drop_condition(z, null_condition(z), self.config.null, rng.fold("null")) if dropped else z


class WholeImage:
    """An image whose places see each other, and are computed anew at every pass, after a text that is read once.

    Args:
        writer: whose image it is.
        z: the texts' latents.
    """

    def __init__(self, writer: Writer, z: Latent) -> None:
        self._backbone, self._places = writer.backbone, writer.places
        before = [writer._text(z), writer.backbone.task("draw", len(z))]
        _, self._cache, self._length = self._backbone.begin(before, -1, self._places)
        at = torch.arange(self._cache.keys.shape[3], device=z.tokens.device)
        self._mask = (at < (self._length + self._places)[:, None])[:, None].expand(-1, self._places, -1)

    def __call__(self, image: Piece) -> Tensor:
        """The image's hidden states (b m d)."""
        coordinates = image.coordinates.expand(len(image.x), -1, -1)
        return self._backbone.advance(image.x, coordinates, self._cache, self._length, self._mask)


def null_condition(z: Latent) -> Latent:
    """No text: every place of the latent masked."""
    return attrs.evolve(z, mask=torch.zeros_like(z.mask))
