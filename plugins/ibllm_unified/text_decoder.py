"""D_x: [image][read][text] through the shared backbone. Shapes: b batch, t tokens, n latent places, d width, v vocabulary, s places of a cache."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, KeyValueCache, Latent, TextDecoder, Tokens, borrow, token_losses, word_dropout
from ibllm_unified.backbone import SequenceBackbone
from ibllm_unified.config import UnifiedTextDecoderConfig
from ibllm_unified.sequence import Order, Piece, grid_coordinates, text_coordinates

#: Cache, places of the image and the task token (b), places so far (b).
State = tuple[KeyValueCache, Tensor, Tensor]


class UnifiedTextDecoder(TextDecoder):
    """Writes a text after the image, whose places see each other; the text sees the image and what was written.

    Latents of another width than the backbone's enter by a linear layer.
    """

    backbone: SequenceBackbone

    def __init__(self, config: UnifiedTextDecoderConfig, context: Context) -> None:
        super().__init__()
        assert context.tokenizer is not None
        borrow(self, backbone=cast(SequenceBackbone, context.shared[config.backbone]))
        self.backbone.speak(context.tokenizer)
        self.vocabulary, self.max_length = context.tokenizer.size, context.tokenizer.max_length
        self.config = config
        latent, width = config.latent or context.latent, self.backbone.width
        self.enter = nn.Identity() if latent == width else nn.Linear(latent, width)

    @property
    def word_dropout(self) -> float:  # type: ignore[override]  # it may move
        return self.config.word_dropout

    def _read(self, z: Latent) -> list[Piece]:
        """The image and the task token."""
        places = z.tokens.shape[1]
        # One square grid, or several of one size after each other (`ImageEncoder.forward`); what has no square in it is a row.
        side = next(side for side in range(math.isqrt(places), 0, -1) if places % side**2 == 0)
        rows, columns = (side, side) if side > 1 else (1, places)
        grid = grid_coordinates(rows, columns, z.tokens.device).repeat(places // (rows * columns), 1)
        return [Piece(self.enter(z.tokens), z.mask, grid), self.backbone.task("read", len(z))]

    def _pieces(self, ids: Tensor, mask: Tensor, z: Latent) -> list[Piece]:
        return [*self._read(z), Piece(self.backbone.embed(ids), mask, text_coordinates(ids.shape[1], ids.device))]

    def logits(self, ids: Tensor, mask: Tensor, z: Latent) -> Tensor:
        hidden = self.backbone.hidden([Order(self._pieces(ids, mask, z), 0)])[0]
        return self.backbone.words(hidden)

    def order(self, tokens: Tokens, z: Latent) -> Order:
        """The sequence whose last piece's hidden states give `nll` of a text without a prefix."""
        ids, wanted, counted = tokens.ids[:, :-1], tokens.ids[:, 1:], tokens.mask[:, 1:]
        if self.training and self.word_dropout:
            ids = word_dropout(ids, self.word_dropout)

        def nll(hidden: Tensor) -> Tensor:
            return (token_losses(self.backbone.words(hidden), wanted) * counted).sum(1)

        return Order(self._pieces(ids, tokens.mask[:, :-1], z), 0, nll)

    def begin(self, z: Latent) -> State:
        # A prefix (a question) may come before the text, each of up to max_length tokens.
        _, cache, length = self.backbone.begin(self._read(z), 0, 2 * self.max_length)
        return cache, length, length.clone()

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        cache, start, length = state
        at = F.pad((length - start + 1)[:, None, None], (0, 2))
        mask = torch.arange(cache.keys.shape[3], device=ids.device) <= length[:, None]
        hidden = self.backbone.advance(self.backbone.embed(ids)[:, None], at, cache, length, mask[:, None])
        return self.backbone.words(hidden.squeeze(1)), (cache, start, length + 1)
