"""D_y by tokens one after the other. Shapes: b batch, m image tokens, q digits a token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ibllm.plugin import (
    ChainedDigitHeads,
    Context,
    DigitEmbedding,
    Digits,
    GridPositions,
    Latent,
    Rng,
    TokenDecoder,
    concatenate_latents,
    digit_losses,
    drop_condition,
    guided,
    nucleus,
)
import attrs
from ibllm_unified.backbone import UnifiedBackbone
from ibllm_unified.config import TokenOptions
from ibllm_unified.sequence import Order, Piece, grid_coordinates, text_coordinates


def null_condition(z: Latent) -> Latent:
    """No text at all."""
    return attrs.evolve(z, mask=torch.zeros_like(z.mask))


class AutoregressiveDecoder(TokenDecoder):
    def __init__(self, config: TokenOptions, context: Context, backbone: UnifiedBackbone) -> None:
        super().__init__()
        assert context.image_tokens is not None
        object.__setattr__(self, "backbone", backbone)
        self.config, sizes = config, context.image_tokens
        width = backbone.width
        self.rows, self.columns = sizes.rows, sizes.columns
        self.places = sizes.rows * sizes.columns
        self.digits = Digits(sizes, config.factored)
        self.embedding = DigitEmbedding(self.digits.levels, width)
        self.positions = GridPositions(sizes.rows, sizes.columns, width)
        self.heads = ChainedDigitHeads(self.digits.levels, width)

    def _text(self, z: Latent) -> Piece:
        return Piece(z.tokens, z.mask, text_coordinates(z.tokens.shape[1], z.tokens.device))

    def _image(self, digits: Tensor) -> Piece:
        """digits (b k q) written so far → the k + 1 places."""
        b, k = digits.shape[:2]
        x = torch.cat([self.backbone.draw.expand(b, 1, -1), self.embedding(digits)], 1) + self.positions()[: k + 1]
        grid = grid_coordinates(self.rows, self.columns, x.device)[: k + 1]
        return Piece(x, torch.ones(b, k + 1, dtype=torch.bool, device=x.device), grid)

    def _condition(self, z: Latent, rng: Rng) -> Latent:
        if not (self.training and self.config.null):
            return z
        return drop_condition(z, null_condition(z), self.config.null, rng.fold("null"))

    def order(self, y: Tensor, z: Latent, rng: Rng) -> Order:
        digits = self.digits.split(y)
        return Order(
            [self._text(self._condition(z, rng)), self._image(digits[:, :-1])],
            -1,
            lambda hidden: digit_losses(self.heads(hidden, digits), digits).sum((1, 2)),
        )

    def nll(self, y: Tensor, z: Latent, rng: Rng) -> Tensor:
        order = self.order(y, z, rng)
        return order.finish(self.backbone.hidden([order])[0])

    @torch.no_grad()
    def sample(self, z: Latent, rng: Rng) -> Tensor:
        config, uniform = self.config, rng.uniform(self.places, len(self.digits.levels))
        guide = config.guidance != 1
        if guide:
            z = concatenate_latents(z, null_condition(z))
        nothing = z.tokens.new_empty(len(z), 0, len(self.digits.levels), dtype=torch.long)
        x, cache, length = self.backbone.begin([self._text(z), self._image(nothing)], -1, self.places - 1)
        at, grid = torch.arange(cache.keys.shape[3], device=x.device), grid_coordinates(self.rows, self.columns, x.device)
        written: list[Tensor] = []
        for place in range(self.places):
            if place:
                digits = written[-1].repeat(2, 1) if guide else written[-1]
                step = (self.embedding(digits) + self.positions()[place]).unsqueeze(1)
                mask = (at <= length[:, None])[:, None]
                x = self.backbone.advance(step, grid[place].expand(len(step), 1, -1), cache, length, mask).squeeze(1)
                length = length + 1

            def choose(logits: Tensor, number: int, chance: Tensor = uniform[:, place]) -> Tensor:
                logits = guided(logits, config.guidance) if guide else logits
                return nucleus(logits, chance[:, number], config.temperature, config.top_p)

            written.append(self.heads.draw(x, choose))
        return self.digits.join(torch.stack(written, 1))
