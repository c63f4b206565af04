"""D_x as an LSTM with attention.

Shapes: b batch, t tokens, n latent places, m their width, d width, e embedding width, l layers, v vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibllm.plugin import Context, Dropout, Latent, TextDecoder
from ibllm_lstm.config import LSTMTextDecoderConfig

#: hidden (b l d), cell (b l d), keys (b n d), latent tokens (b n m), latent mask (b n).
State = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class Attention(nn.Module):
    """Attention over the latent's places.

    The score of place s at state h is hᵀ W s ("general", Luong et al. 2015, eq. 8) or vᵀ tanh(W h + U s) ("additive", Bahdanau et
    al. 2015, appendix A.1.2); the context is the places' mean, weighted by the softmax of their scores.
    """

    def __init__(self, width: int, latent: int, additive: bool) -> None:
        super().__init__()
        self.key = nn.Linear(latent, width, bias=False)
        self.query = nn.Linear(width, width) if additive else None
        self.score = nn.Linear(width, 1, bias=False) if additive else None

    def forward(self, h: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """h (b t d), keys (b n d), values (b n m), mask (b n) → contexts (b t m)."""
        if self.query is not None and self.score is not None:
            scores = self.score((self.query(h).unsqueeze(2) + keys.unsqueeze(1)).tanh()).squeeze(-1)
        else:
            scores = h @ keys.transpose(1, 2)
        context: Tensor = scores.masked_fill(~mask.unsqueeze(1), -torch.inf).softmax(-1) @ values
        return context


class LSTMTextDecoder(TextDecoder):
    """Starts from the pooled latent; each state and what it attends to give the next token (Luong et al. 2015, eq. 5–6)."""

    def __init__(self, config: LSTMTextDecoderConfig, context: Context) -> None:
        super().__init__()
        assert context.tokenizer is not None
        width, latent = config.width or context.width, config.latent or context.latent
        embed = config.embed or width
        self.vocabulary, self.max_length = context.tokenizer.size, context.tokenizer.max_length
        self.config = config
        self.embedding = nn.Embedding(self.vocabulary, embed)
        self.start = nn.Linear(latent, 2 * config.layers * width)
        self.layers = nn.ModuleList(nn.LSTM(given, width, batch_first=True) for given in [embed, *[width] * (config.layers - 1)])
        self.drop = Dropout(config)
        self.attention = Attention(width, latent, config.attention == "additive") if config.attention != "none" else None
        self.combine = nn.Linear(width + latent, width) if self.attention is not None else None
        self.head = nn.Linear(width, self.vocabulary)

    @property
    def word_dropout(self) -> float:  # type: ignore[override]  # it may move
        return self.config.word_dropout

    def _run(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """ids (b t) from a state → logits (b t v) and the state after them."""
        hidden, cell, keys, values, mask = state
        x, hiddens, cells = self.embedding(ids), [], []
        for number, layer in enumerate(self.layers):
            x = self.drop(x) if number else x
            x, (h, c) = layer(x, (hidden[:, number].unsqueeze(0).contiguous(), cell[:, number].unsqueeze(0).contiguous()))
            hiddens.append(h.squeeze(0))
            cells.append(c.squeeze(0))
        if self.attention is not None and self.combine is not None:
            x = self.combine(torch.cat([self.attention(x, keys, values, mask), x], -1)).tanh()
        logits: Tensor = self.head(self.drop(x))
        return logits, (torch.stack(hiddens, 1), torch.stack(cells, 1), keys, values, mask)

    def logits(self, ids: Tensor, mask: Tensor, z: Latent) -> Tensor:
        # Padding comes last and an LSTM reads forwards, so the padding mask has nothing to add.
        return self._run(ids, self.begin(z))[0]

    def begin(self, z: Latent) -> State:
        start = self.start(z.pooled).unflatten(-1, (2, len(self.layers), -1))
        keys = self.attention.key(z.tokens) if self.attention is not None else z.tokens
        return start[:, 0].tanh(), start[:, 1], keys, z.tokens, z.mask

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        logits, state = self._run(ids.unsqueeze(1), state)
        return logits.squeeze(1), state
