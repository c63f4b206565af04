"""D_y as masked token modelling (Chang et al. 2022, MaskGIT).

Shapes: b batch, n latent places, m image tokens, q digits a token, d width, v levels of a digit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import (
    Context,
    DigitEmbedding,
    DigitHeads,
    Digits,
    GridPositions,
    Latent,
    Rng,
    TokenDecoder,
    attention_bias,
    concatenate_latents,
    digit_losses,
    drop_condition,
    guided,
    gumbel,
    k_smallest,
    mask_schedule,
    nucleus,
)
from ibllm_transformer.config import MaskGITConfig
from ibllm_transformer.layers import DecoderLayer, null_condition


class MaskGIT(TokenDecoder):
    """Predicts masked tokens from the others and the latent; where tokens have digits (`Digits`), masked digits: m counts all digits of an image then.

    Its nll is a bound, −log p(y|x) ≤ E_k[m/k · E_S[Σ_{i∈S} −log p(y_i | y_∖S, x)]] with k uniform on 1…m and S any k of the m: the
    average over all orders of writing them one by one (Uria et al. 2014, eq. 8; Hoogeboom et al. 2022, eq. 6), which is the bound of absorbing
    diffusion, E_t[1/t · Σ_masked] with t uniform on 0…1 (Austin et al. 2021, section 4), with its variance in the number of masked tokens
    taken out. One draw of k and S a call: m times the mean of what the masked ones cost, so its size does not change with k.
    """

    checkpointed = ("layers",)

    def __init__(self, config: MaskGITConfig, context: Context) -> None:
        super().__init__()
        assert context.image_tokens is not None
        self.config, sizes = config, context.image_tokens
        width, latent = config.width or context.width, config.latent or context.latent
        self.places = sizes.rows * sizes.columns
        self.digits = Digits(sizes, config.factored)
        self.embedding = DigitEmbedding(self.digits.levels, width)
        self.positions = GridPositions(sizes.rows, sizes.columns, width)
        #: A learned latent place that is never masked, so that there is something to attend to under the null condition.
        self.null = nn.Parameter(torch.randn(latent))
        self.layers = nn.ModuleList(DecoderLayer(width, config.heads, config.ratio, config, latent) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.heads = DigitHeads(self.digits.levels, width)

    def logits(self, y: Tensor, z: Latent) -> list[Tensor]:
        """y (b m q) digits, masked ones as `Digits.hide` gives them → the logits (b m v) of each digit."""
        places = torch.cat([self.null.expand(len(z), 1, -1), z.tokens], 1)
        x = self.embedding(y) + self.positions()
        mask = attention_bias(F.pad(z.mask, (1, 0), value=True), x)
        for layer in self.layers:
            x = layer(x, places, mask, causal=False)
        found: list[Tensor] = self.heads(self.norm(x))
        return found

    def nll(self, y: Tensor, z: Latent, rng: Rng) -> Tensor:
        digits, total = self.digits.split(y), self.places * len(self.digits.levels)
        number = rng.fold("number").integers(total, 1) + 1
        masked = k_smallest(rng.fold("places").uniform(total), number).view_as(digits)
        if self.training and self.config.null:
            z = drop_condition(z, null_condition(z), self.config.null, rng.fold("null"))
        losses = digit_losses(self.logits(self.digits.hide(digits, masked), z), digits)
        return (losses * masked).sum((1, 2)) * (total / number.squeeze(1))

    @torch.no_grad()
    def sample(self, z: Latent, rng: Rng) -> Tensor:
        """In each step all masked digits are drawn and the most confident stay; noise on the confidence falls from step to step to 0."""
        config, guide = self.config, self.config.guidance != 1
        both = concatenate_latents(z, null_condition(z)) if guide else z
        masked = torch.ones(len(z), self.places, len(self.digits.levels), dtype=torch.bool, device=z.tokens.device)
        y = self.digits.hide(torch.zeros_like(masked, dtype=torch.long), masked)
        counts = mask_schedule(masked[0].numel(), config.steps)
        for step, left in enumerate(counts, 1):
            logits = self.logits(y.repeat(2, 1, 1) if guide else y, both)
            logits = [guided(some, config.guidance) if guide else some.float() for some in logits]
            draws = rng.fold("step", step)
            uniform = draws.uniform(*y.shape[1:]).unbind(-1)
            pairs = zip(logits, uniform, strict=True)
            drawn = torch.stack([nucleus(some, chance, config.temperature, 1.0) for some, chance in pairs], -1)
            drawn = torch.where(masked, drawn, y)
            confidence = -digit_losses(logits, drawn) + config.choice * (1 - step / len(counts)) * gumbel(draws.uniform(*y.shape[1:]))
            masked = k_smallest(confidence.masked_fill(~masked, torch.inf).flatten(1), left).view_as(masked)
            y = self.digits.hide(drawn, masked)
        return self.digits.join(y)
