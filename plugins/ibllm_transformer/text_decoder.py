"""D_x as a transformer. Shapes: b batch, t tokens, n latent places, d width, l layers, h heads, e width of a head, v vocabulary."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ibllm.plugin import Context, KeyValueCache, Latent, TextDecoder, attention_bias, position_embedding
from ibllm_transformer.config import TransformerTextDecoderConfig
from ibllm_transformer.layers import DecoderLayer

#: Cache, latent keys (b l h n e), latent values (b l h n e), latent mask (b n), tokens so far (b).
State = tuple[KeyValueCache, Tensor, Tensor, Tensor, Tensor]


class TransformerTextDecoder(TextDecoder):
    """Writes a text token by token, attending to the image's latent in every layer."""

    checkpointed = ("layers",)

    def __init__(self, config: TransformerTextDecoderConfig, context: Context) -> None:
        super().__init__()
        assert context.tokenizer is not None
        width, latent = config.width or context.width, config.latent or context.latent
        self.vocabulary, self.max_length = context.tokenizer.size, context.tokenizer.max_length
        self.config = config
        self.embedding = nn.Embedding(self.vocabulary, width)
        # A prefix (a question) may come before the text, each of up to max_length tokens.
        self.positions = position_embedding(2 * self.max_length, width)
        self.layers = nn.ModuleList(DecoderLayer(width, config.heads, config.ratio, config, latent) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, self.vocabulary)

    @property
    def word_dropout(self) -> float:  # type: ignore[override]  # it may move
        return self.config.word_dropout

    def _layers(self) -> Iterator[DecoderLayer]:
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            yield layer

    def logits(self, ids: Tensor, mask: Tensor, z: Latent) -> Tensor:
        # Padding comes last and attention is causal, so the padding mask has nothing to add.
        x = self.embedding(ids) + self.positions[: ids.shape[1]]
        seen = attention_bias(z.mask, x)
        for layer in self._layers():
            x = layer(x, z.tokens, seen)
        logits: Tensor = self.head(self.norm(x))
        return logits

    def begin(self, z: Latent) -> State:
        pairs = [layer.latent.keys_values(z.tokens) for layer in self._layers()]
        latent_keys, latent_values = (torch.stack(kept, 1) for kept in zip(*pairs, strict=True))
        cache = KeyValueCache.empty(pairs[0][0], len(pairs), len(self.positions))
        return cache, latent_keys, latent_values, z.mask, z.mask.new_zeros(len(z), dtype=torch.long)

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        cache, latent_keys, latent_values, mask, length = state
        attended = torch.arange(cache.keys.shape[3], device=ids.device) <= length[:, None]
        x = (self.embedding(ids) + self.positions[length]).unsqueeze(1)
        attended, mask = attention_bias(attended, x), attention_bias(mask, x)
        for number, layer in enumerate(self._layers()):
            x = layer.cached(x, cache, number, length, attended, latent_keys[:, number], latent_values[:, number], mask)
        logits: Tensor = self.head(self.norm(x[:, 0]))
        return logits, (cache, latent_keys, latent_values, state[3], length + 1)
