"""D_y as masked token modelling (Chang et al. 2022, MaskGIT). Shapes: b batch, n latent places, m image tokens, d width, v vocabulary."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, Latent, Rng, TokenDecoder, attention_bias, concatenate_latents, drop_condition, guided, nucleus
from ibllm_transformer.config import MaskGITConfig
from ibllm_transformer.layers import DecoderLayer, GridPositions, null_condition, token_losses


def mask_schedule(tokens: int, steps: int) -> list[int]:
    """Tokens still masked after each step, ⌊m·cos(π/2 · i/steps)⌋ (Chang et al. 2022, section 3.3), at least one fewer each time, 0 at last."""
    left = [tokens]
    for step in range(1, steps):
        left.append(min(math.floor(tokens * math.cos(math.pi / 2 * step / steps)), left[-1] - 1))
    return [number for number in left[1:] if number > 0] + [0]


def k_smallest(values: Tensor, number: int | Tensor) -> Tensor:
    """values (b m), number, one for all or (b 1) → (b m) bool, True at each row's `number` smallest values."""
    return values.argsort(1).argsort(1) < number


class MaskGIT(TokenDecoder):
    """Predicts masked tokens from the others and the latent.

    Its nll is a bound, −log p(y|x) ≤ E_k[m/k · E_S[Σ_{i∈S} −log p(y_i | y_∖S, x)]] with k uniform on 1…m and S any k of the m places: the
    average over all orders of writing the tokens one by one (Uria et al. 2014, eq. 8; Hoogeboom et al. 2022, eq. 6), which is the bound of absorbing
    diffusion, E_t[1/t · Σ_masked] with t uniform on 0…1 (Austin et al. 2021, section 4), with its variance in the number of masked tokens
    taken out. One draw of k and S a call: m times the mean of what the masked tokens cost, so its size does not change with k.
    """

    checkpointed = ("layers",)

    def __init__(self, config: MaskGITConfig, context: Context) -> None:
        super().__init__()
        assert context.image_tokens is not None
        self.config, sizes = config, context.image_tokens
        width, latent = config.width or context.width, config.latent or context.latent
        self.places, self.mask_token = sizes.rows * sizes.columns, sizes.vocabulary
        self.embedding = nn.Embedding(sizes.vocabulary + 1, width)  # the last stands for a masked token
        self.positions = GridPositions(sizes.rows, sizes.columns, width)
        #: A learned latent place that is never masked, so that there is something to attend to under the null condition.
        self.null = nn.Parameter(torch.randn(latent))
        self.layers = nn.ModuleList(DecoderLayer(width, config.heads, config.ratio, config.dropout, latent) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, sizes.vocabulary)

    def logits(self, y: Tensor, z: Latent) -> Tensor:
        """y (b m), masked tokens as `mask_token` → (b m v)."""
        places = torch.cat([self.null.expand(len(z), 1, -1), z.tokens], 1)
        x = self.embedding(y) + self.positions()
        mask = attention_bias(F.pad(z.mask, (1, 0), value=True), x)
        for layer in self.layers:
            x = layer(x, places, mask, causal=False)
        logits: Tensor = self.head(self.norm(x))
        return logits

    def nll(self, y: Tensor, z: Latent, rng: Rng) -> Tensor:
        number = rng.fold("number").integers(self.places, 1) + 1
        masked = k_smallest(rng.fold("places").uniform(self.places), number)
        if self.training and self.config.null:
            z = drop_condition(z, null_condition(z), self.config.null, rng.fold("null"))
        logits = self.logits(torch.where(masked, self.mask_token, y), z)
        return (token_losses(logits, y) * masked).sum(1) * (self.places / number.squeeze(1))

    @torch.no_grad()
    def sample(self, z: Latent, rng: Rng) -> Tensor:
        """In each step all masked tokens are drawn and the most confident stay; noise on the confidence falls from step to step to 0."""
        config, guide = self.config, self.config.guidance != 1
        both = concatenate_latents(z, null_condition(z)) if guide else z
        y = torch.full((len(z), self.places), self.mask_token, device=z.tokens.device)
        counts = mask_schedule(self.places, config.steps)
        for step, left in enumerate(counts, 1):
            logits = self.logits(y.repeat(2, 1) if guide else y, both)
            logits = guided(logits, config.guidance) if guide else logits.float()
            draws = rng.fold("step", step)
            drawn = torch.where(y == self.mask_token, nucleus(logits, draws.uniform(self.places), config.temperature, 1.0), y)
            confidence = logits.log_softmax(-1).gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
            confidence = confidence + config.choice * (1 - step / len(counts)) * gumbel(draws.uniform(self.places))
            again = k_smallest(confidence.masked_fill(y != self.mask_token, torch.inf), left)
            y = torch.where(again, self.mask_token, drawn)
        return y


def gumbel(uniform: Tensor) -> Tensor:
    """Standard Gumbel noise of uniform numbers in [0, 1)."""
    return -(-uniform.clamp(min=1e-9).log()).log()
