"""D_y as one causal transformer over text and image tokens (Ramesh et al. 2021, DALL-E).

Shapes: b batch, n latent places, m image tokens, l layers, h heads, e width of a head, d width, v levels of a digit, q digits a token.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import (
    ChainedDigitHeads,
    Context,
    DigitEmbedding,
    Digits,
    GridPositions,
    KeyValueCache,
    Latent,
    Rng,
    TokenDecoder,
    Tokens,
    attention_bias,
    causal_mask,
    concatenate_latents,
    digit_losses,
    drop_condition,
    guided,
    nucleus,
    token_losses,
)
from ibllm_transformer.config import VQTransformerConfig
from ibllm_transformer.layers import EncoderLayer, null_condition


@attrs.define(eq=False)
class Reading:
    """What was read so far.

    Attributes:
        cache: keys and values of n + m places.
        mask: (b n+m) bool, the places that the image's places attend to.
        length: places read.
    """

    cache: KeyValueCache
    mask: Tensor
    length: int = 0


class VQTransformer(TokenDecoder):
    """Reads the latent's places, then writes the image's tokens row by row: log p(y|x) = Σ_i log p(y_i | y_<i, x), exact.

    The latent's places carry their positions and attend to those before them only. The null condition hides them from the image's places, so the
    text's own likelihood does not depend on it.

    Where all places are read at once, those that the image does not see are put last: causal attention then needs no mask, and the fastest kernels take none.
    """

    checkpointed = ("layers",)

    def __init__(self, config: VQTransformerConfig, context: Context) -> None:
        super().__init__()
        assert context.image_tokens is not None
        self.config, sizes = config, context.image_tokens
        width = config.width or context.width
        self.places = sizes.rows * sizes.columns
        self.enter = nn.Linear(config.latent or context.latent, width)
        self.first = nn.Parameter(torch.randn(width))
        self.digits = Digits(sizes, config.factored)
        self.embedding = DigitEmbedding(self.digits.levels, width)
        #: Of the token that a place predicts, not of the one it reads.
        self.positions = GridPositions(sizes.rows, sizes.columns, width)
        self.layers = nn.ModuleList(EncoderLayer(width, config.heads, config.ratio, config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.heads = ChainedDigitHeads(self.digits.levels, width)
        self.words = nn.Linear(width, context.vocabularies["text_encoder"]) if config.caption else None

    def _layers(self) -> Iterator[EncoderLayer]:
        for layer in self.layers:
            assert isinstance(layer, EncoderLayer)
            yield layer

    def _sequence(self, digits: Tensor, z: Latent) -> Tensor:
        """The tokens read, digits (b k q) → the layers' input (b n+1+k d): latent, beginning, tokens."""
        first = self.first.expand(len(z), 1, -1)
        image = torch.cat([first, self.embedding(digits)], 1) + self.positions()[: digits.shape[1] + 1]
        return torch.cat([self.enter(z.tokens), image], 1)

    def _mask(self, own: Tensor, read: Tensor, places: int) -> Tensor:
        """The latent's padding mask for its own places, own (b n), and for the image's, read (b n) → attention mask (b n+places n+places)."""
        n = own.shape[1]
        causal = causal_mask(F.pad(own, (0, places), value=True))
        image = torch.arange(n + places, device=own.device) >= n
        return causal & ~(image[:, None] & F.pad(~read, (0, places))[:, None])

    def _read(self, digits: Tensor, z: Latent, read: Tensor) -> Tensor:
        """digits (b m q), read (b n) → the last layer's output at the image's places (b m d)."""
        x = self._sequence(digits[:, :-1], z)
        order = F.pad(~read, (0, self.places)).to(torch.int8).argsort(dim=1, stable=True)
        x = _gather(x, order)
        for layer in self._layers():
            x = layer(x, causal=True)
        image = read.sum(1, keepdim=True) + torch.arange(self.places, device=x.device)
        return self.norm(_gather(x, image))

    def _read_both(self, digits: Tensor, z: Latent, read: Tensor) -> tuple[Tensor, Tensor]:
        """digits (b m q), read (b n) → the last layer's output at the latent's places (b n d), seen by the image or not, and at the image's (b m d)."""
        x, n = self._sequence(digits[:, :-1], z), z.tokens.shape[1]
        mask = attention_bias(self._mask(z.mask, read, self.places), x)
        for layer in self._layers():
            x = layer(x, mask, start=n)
        return self.norm(x[:, :n]), self.norm(x[:, n:])

    def _condition_mask(self, z: Latent, rng: Rng) -> Tensor:
        """(b n) the latent places that the image attends to: none where condition dropout hides the text."""
        if not (self.training and self.config.null):
            return z.mask
        return drop_condition(z, null_condition(z), self.config.null, rng.fold("null")).mask

    def _image_nll(self, hidden: Tensor, digits: Tensor) -> Tensor:
        return digit_losses(self.heads(hidden, digits), digits).sum((1, 2))

    def logits(self, y: Tensor, z: Latent) -> list[Tensor]:
        """y (b m) → the logits (b m v) of each digit: place i predicts token i from those before it, and each of its digits from those before."""
        digits = self.digits.split(y)
        found: list[Tensor] = self.heads(self._read(digits, z, z.mask), digits)
        return found

    def nll(self, y: Tensor, z: Latent, rng: Rng) -> Tensor:
        digits = self.digits.split(y)
        return self._image_nll(self._read(digits, z, self._condition_mask(z, rng)), digits)

    def caption_nll(self, tokens: Tokens, y: Tensor, z: Latent, rng: Rng) -> tuple[Tensor, Tensor]:
        """The text's is a likelihood where z is a causal encoder's: place i then predicts token i + 1 from those up to i."""
        if self.words is None:
            raise NotImplementedError("caption = false: the text is not predicted")
        if z.tokens.shape[1] != tokens.ids.shape[1]:
            raise ValueError(f"the latent has {z.tokens.shape[1]} places for {tokens.ids.shape[1]} tokens; expected one a token")
        digits = self.digits.split(y)
        text, image = self._read_both(digits, z, self._condition_mask(z, rng))
        losses = token_losses(self.words(text[:, :-1]), tokens.ids[:, 1:])
        return (losses * tokens.mask[:, 1:]).sum(1), self._image_nll(image, digits)

    def begin(self, z: Latent) -> tuple[Tensor, Reading]:
        """Reads the latent: what the heads make the first token of (b d), and what was read. Without gradients."""
        nothing = z.tokens.new_empty(len(z), 0, len(self.digits.levels), dtype=torch.long)
        x, mask = self._sequence(nothing, z), self._mask(z.mask, z.mask, 1)
        key, _ = next(self._layers()).attention.keys_values(x[:, :1])  # under autocast, of its type
        cache = KeyValueCache.empty(key, len(self.layers), z.tokens.shape[1] + self.places)
        read = Reading(cache, F.pad(z.mask, (0, self.places), value=True))
        return self._advance(x, mask, read), read

    def step(self, digits: Tensor, read: Reading) -> Tensor:
        """digits (b q) of a token → what the heads make the token after it of (b d). Without gradients."""
        place = read.length + 1 - (read.mask.shape[1] - self.places)
        x = (self.embedding(digits) + self.positions()[place - 1]).unsqueeze(1)
        return self._advance(x, read.mask[:, : read.length + 1], read)

    def _advance(self, x: Tensor, mask: Tensor, read: Reading) -> Tensor:
        bias = attention_bias(mask, x)
        for number, layer in enumerate(self._layers()):
            x = layer.cached(x, read.cache, number, read.length, bias)
        read.length += x.shape[1]
        last: Tensor = self.norm(x[:, -1])
        return last

    @torch.no_grad()
    def sample(self, z: Latent, rng: Rng) -> Tensor:
        config, uniform = self.config, rng.uniform(self.places, len(self.digits.levels))
        guide = config.guidance != 1
        x, read = self.begin(concatenate_latents(z, null_condition(z)) if guide else z)
        written: list[Tensor] = []
        for place in range(self.places):
            if place:
                x = self.step(written[-1].repeat(2, 1) if guide else written[-1], read)

            def choose(logits: Tensor, number: int, chance: Tensor = uniform[:, place]) -> Tensor:
                logits = guided(logits, config.guidance) if guide else logits
                return nucleus(logits, chance[:, number], config.temperature, config.top_p)

            written.append(self.heads.draw(x, choose))
        return self.digits.join(torch.stack(written, 1))


def _gather(x: Tensor, places: Tensor) -> Tensor:
    """x (b t d), places (b s) → (b s d)."""
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
