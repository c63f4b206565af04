"""D_x: [image][read][text] through the shared backbone. Shapes: b batch, t tokens, n latent places, d width, v vocabulary, s places of a cache."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ibllm.plugin import Context, KeyValueCache, Latent, TextDecoder
from ibllm_unified.backbone import UnifiedBackbone
from ibllm_unified.config import TextDecoderConfig
from ibllm_unified.sequence import Order, Piece, grid_coordinates, text_coordinates

#: Cache, places of the image and the task token (b), places so far (b).
State = tuple[KeyValueCache, Tensor, Tensor]


class UnifiedTextDecoder(TextDecoder):
    """Writes a text after the image, whose places see each other; the text sees the image and what was written."""

    def __init__(self, config: TextDecoderConfig, context: Context, backbone: UnifiedBackbone) -> None:
        super().__init__()
        assert context.tokenizer is not None
        object.__setattr__(self, "backbone", backbone)
        self.vocabulary, self.max_length = context.tokenizer.size, context.tokenizer.max_length
        self.word_dropout = config.word_dropout

    def pieces(self, z: Latent) -> list[Piece]:
        """The image and the task token."""
        places = z.tokens.shape[1]
        side = math.isqrt(places)
        grid = grid_coordinates(side, side, z.tokens.device) if side * side == places else grid_coordinates(1, places, z.tokens.device)
        return [Piece(z.tokens, z.mask, grid), self.backbone.task(self.backbone.read, len(z))]

    def order(self, ids: Tensor, mask: Tensor, z: Latent) -> Order:
        text = Piece(self.backbone.embed(ids), mask, text_coordinates(ids.shape[1], ids.device))
        return Order([*self.pieces(z), text], 0, self.backbone.words)

    def logits(self, ids: Tensor, mask: Tensor, z: Latent) -> Tensor:
        return self.backbone.words(self.backbone.hidden([self.order(ids, mask, z)])[0])

    def begin(self, z: Latent) -> State:
        _, cache, length = self.backbone.begin(self.pieces(z), 0, 2 * self.max_length)
        return cache, length, length.clone()

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        cache, start, length = state
        at = F.pad((length - start + 1)[:, None, None], (0, 2))
        mask = torch.arange(cache.keys.shape[3], device=ids.device) <= length[:, None]
        x = self.backbone.advance(self.backbone.embed(ids)[:, None], at, cache, length, mask[:, None])
        return self.backbone.words(x.squeeze(1)), (cache, start, length + 1)
