"""D_y by a codec's tokens one after the other. Shapes: b batch, m image tokens, q digits a token, d width, s places of a cache."""

from __future__ import annotations

import torch
from torch import Tensor

from ibllm.plugin import (
    ChainedDigitHeads,
    Context,
    DigitEmbedding,
    Digits,
    Latent,
    Rng,
    TokenDecoder,
    concatenate_latents,
    digit_losses,
    guided,
    nucleus,
)
from ibllm_unified.config import UnifiedImageDecoderConfig
from ibllm_unified.sequence import Order, Piece
from ibllm_unified.writing import Writer, null_condition


class AutoregressiveWriter(Writer, TokenDecoder):
    """[text][draw, tokens but the last]: log p(y|x) = Σ_i log p(y_i | y_<i, x), exact, each token's digits one after the other (Chameleon Team 2024).

    The task token stands where the first image token is predicted, each token where the one after it is, so a place has the position of what it predicts.
    """

    def __init__(self, config: UnifiedImageDecoderConfig, context: Context) -> None:
        assert context.image_tokens is not None
        super().__init__(config, context, context.image_tokens.rows, context.image_tokens.columns)
        self.digits = Digits(context.image_tokens, config.factored)
        self.embedding = DigitEmbedding(self.digits.levels, self.backbone.width)
        self.heads = ChainedDigitHeads(self.digits.levels, self.backbone.width)

    def _read(self, digits: Tensor) -> Piece:
        """digits (b k q) of the tokens so far → k + 1 places."""
        return self._image(torch.cat([self.backbone.task("draw", len(digits)).x, self.embedding(digits)], 1))

    def order(self, y: Tensor, z: Latent, rng: Rng) -> Order:
        digits = self.digits.split(y)
        read = digits[:, :-1]
        if self.training and self.config.token_dropout:
            hidden = rng.fold("hidden").uniform(read.shape[1]) < self.config.token_dropout
            read = self.digits.hide(read, hidden.unsqueeze(-1))

        def nll(hidden: Tensor) -> Tensor:
            return digit_losses(self.heads(hidden, digits), digits).sum((1, 2))

        return Order([self._text(self._condition(z, rng)), self._read(read)], -1, nll)

    def logits(self, y: Tensor, z: Latent) -> list[Tensor]:
        """y (b m) → the logits (b m v) of each digit: place i predicts token i from those before it, and each of its digits from those before."""
        digits = self.digits.split(y)
        order = Order([self._text(z), self._read(digits[:, :-1])], -1)
        found: list[Tensor] = self.heads(self.backbone.hidden([order])[0], digits)
        return found

    @torch.no_grad()
    def sample(self, z: Latent, rng: Rng) -> Tensor:
        config, uniform = self.config, rng.uniform(self.places, len(self.digits.levels))
        guide = config.guidance != 1
        if guide:
            z = concatenate_latents(z, null_condition(z))
        nothing = z.tokens.new_empty(len(z), 0, len(self.digits.levels), dtype=torch.long)
        x, cache, length = self.backbone.begin([self._text(z), self._read(nothing)], -1, self.places - 1)
        at, grid = torch.arange(cache.keys.shape[3], device=x.device), self.grid(x)
        written: list[Tensor] = []
        for place in range(self.places):
            if place:
                digits = written[-1].repeat(2, 1) if guide else written[-1]
                step, seen = (self.embedding(digits) + self.positions()[place]).unsqueeze(1), (at <= length[:, None])[:, None]
                x = self.backbone.advance(step, grid[place].expand(len(step), 1, -1), cache, length, seen).squeeze(1)
                length = length + 1

            def choose(logits: Tensor, number: int, chance: Tensor = uniform[:, place]) -> Tensor:
                logits = guided(logits, config.guidance) if guide else logits
                return nucleus(logits, chance[:, number], config.temperature, config.top_p)

            written.append(self.heads.draw(x, choose))
        return self.digits.join(torch.stack(written, 1))
