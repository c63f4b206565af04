"""E_x as an LSTM. Shapes: b batch, t tokens, e embedding width, d latent width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibllm.plugin import Context, Dropout, Latent, TextEncoder, masked_mean
from ibllm_lstm.config import LSTMTextEncoderConfig, check_even


def reversed_places(mask: Tensor) -> Tensor:
    """mask (b t) → places (b t) of each text in reverse order; padding stays where it is."""
    place, length = torch.arange(mask.shape[1], device=mask.device), mask.sum(1, keepdim=True)
    return torch.where(place < length, length - 1 - place, place)


class LSTMLayer(nn.Module):
    """One LSTM layer. The backward direction reads each text from its own last token, so padding is never read before it."""

    def __init__(self, inputs: int, width: int, bidirectional: bool) -> None:
        super().__init__()
        own = width // 2 if bidirectional else width
        self.forwards = nn.LSTM(inputs, own, batch_first=True)
        self.backwards = nn.LSTM(inputs, own, batch_first=True) if bidirectional else None

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """x (b t e), places (b t) of `reversed_places` → (b t d)."""
        read: Tensor = self.forwards(x)[0]
        if self.backwards is None:
            return read
        back: Tensor = self.backwards(gather_places(x, places))[0]
        return torch.cat([read, gather_places(back, places)], -1)


def gather_places(x: Tensor, places: Tensor) -> Tensor:
    """x (b t e), places (b s) → (b s e)."""
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


class LSTMTextEncoder(TextEncoder):
    """Gives one vector a token; the pooled vector is each direction's last state, or the mean."""

    def __init__(self, config: LSTMTextEncoderConfig, context: Context) -> None:
        super().__init__()
        assert context.tokenizer is not None
        self.width, self.config = config.width or context.width, config
        check_even(self.width, config.bidirectional)
        embed = config.embed or self.width
        self.embedding = nn.Embedding(context.tokenizer.size, embed)
        inputs = [embed, *[self.width] * (config.layers - 1)]
        self.layers = nn.ModuleList(LSTMLayer(given, self.width, config.bidirectional) for given in inputs)
        self.drop = Dropout(config)

    def embed(self, ids: Tensor) -> Tensor:
        embeddings: Tensor = self.embedding(ids)
        return embeddings

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        places, x = reversed_places(mask), embeddings
        for number, layer in enumerate(self.layers):
            x = layer(self.drop(x) if number else x, places)
        x = x * mask.unsqueeze(-1)
        return Latent(x, mask, masked_mean(x, mask) if self.config.pool == "mean" else self._last_states(x, places))

    def _last_states(self, x: Tensor, places: Tensor) -> Tensor:
        """(b d) the state after the last token read: the text's last one forwards, its first one backwards."""
        last = gather_places(x, places[:, :1]).squeeze(1)
        if not self.config.bidirectional:
            return last
        half = self.width // 2
        return torch.cat([last[:, :half], x[:, 0, half:]], -1)
