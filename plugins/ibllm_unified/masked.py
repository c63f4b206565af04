"""D_y by masked tokens, many at once. Shapes: b batch, m image tokens, q digits a token, v levels of a digit, d width."""

from __future__ import annotations

import torch
from torch import Tensor

from ibllm.plugin import (
    Context,
    DigitEmbedding,
    DigitHeads,
    Digits,
    Latent,
    Rng,
    TokenDecoder,
    concatenate_latents,
    digit_losses,
    guided,
    gumbel,
    k_smallest,
    mask_schedule,
    nucleus,
)
from ibllm_unified.config import UnifiedImageDecoderConfig
from ibllm_unified.sequence import Order
from ibllm_unified.writing import WholeImage, Writer, null_condition


class MaskedWriter(Writer, TokenDecoder):
    """[text][draw][tokens, some masked]: causal over the text, both ways within the image (Xie et al. 2024, Show-o).

    Its nll is a bound, −log p(y|x) ≤ E_k[m/k · E_S[Σ_{i∈S} −log p(y_i | y_∖S, x)]] with k uniform on 1…m and S any k of the m, the average over all orders of
    writing tokens one by one (Uria et al. 2014, eq. 8; Hoogeboom et al. 2022, eq. 6); where tokens have digits, m counts all digits of an image. One draw of
    k and S a call.
    """

    def __init__(self, config: UnifiedImageDecoderConfig, context: Context) -> None:
        assert context.image_tokens is not None
        super().__init__(config, context, context.image_tokens.rows, context.image_tokens.columns)
        self.digits = Digits(context.image_tokens, config.factored)
        self.embedding = DigitEmbedding(self.digits.levels, self.backbone.width)
        self.heads = DigitHeads(self.digits.levels, self.backbone.width)

    def _order(self, digits: Tensor, z: Latent) -> Order:
        """digits (b m q), masked ones as `Digits.hide` gives them."""
        return Order([self._text(z), self.backbone.task("draw", len(z)), self._image(self.embedding(digits))], 2)

    def logits(self, y: Tensor, z: Latent) -> list[Tensor]:
        """y (b m q) digits, masked ones as `Digits.hide` gives them → the logits (b m v) of each digit."""
        found: list[Tensor] = self.heads(self.backbone.hidden([self._order(y, z)])[0])
        return found

    def order(self, y: Tensor, z: Latent, rng: Rng) -> Order:
        digits, total = self.digits.split(y), self.places * len(self.digits.levels)
        number = rng.fold("number").integers(total, 1) + 1
        masked = k_smallest(rng.fold("places").uniform(total), number).view_as(digits)

        def nll(hidden: Tensor) -> Tensor:
            losses = digit_losses(self.heads(hidden), digits)
            return (losses * masked).sum((1, 2)) * (total / number.squeeze(1))

        order = self._order(self.digits.hide(digits, masked), self._condition(z, rng))
        return Order(order.pieces, order.whole, nll)

    @torch.no_grad()
    def sample(self, z: Latent, rng: Rng) -> Tensor:
        """In each step all masked digits are drawn and the most confident stay; noise on the confidence falls from step to step to 0."""
        config, guide = self.config, self.config.guidance != 1
        read = WholeImage(self, concatenate_latents(z, null_condition(z)) if guide else z)
        masked = torch.ones(len(z), self.places, len(self.digits.levels), dtype=torch.bool, device=z.tokens.device)
        y = self.digits.hide(torch.zeros_like(masked, dtype=torch.long), masked)
        counts = mask_schedule(masked[0].numel(), config.steps)
        for step, left in enumerate(counts, 1):
            logits = self.heads(read(self._image(self.embedding(y.repeat(2, 1, 1) if guide else y))))
            logits = [guided(some, config.guidance) if guide else some.float() for some in logits]
            draws = rng.fold("step", step)
            pairs = zip(logits, draws.uniform(*y.shape[1:]).unbind(-1), strict=True)
            drawn = torch.stack([nucleus(some, chance, config.temperature, 1.0) for some, chance in pairs], -1)
            drawn = torch.where(masked, drawn, y)
            confidence = -digit_losses(logits, drawn) + config.choice * (1 - step / len(counts)) * gumbel(draws.uniform(*y.shape[1:]))
            masked = k_smallest(confidence.masked_fill(~masked, torch.inf).flatten(1), left).view_as(masked)
            y = self.digits.hide(drawn, masked)
        return self.digits.join(y)
