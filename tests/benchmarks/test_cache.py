"""Writing a text with kept keys and values against reading all of it again at every token: a ratio, both in one run."""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest
import torch
from ibllm_transformer.config import TransformerTextDecoderConfig
from ibllm_transformer.text_decoder import TransformerTextDecoder
from torch import Tensor

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Latent

ROUNDS, ITEMS, WIDTH, VOCABULARY, LONGEST = 5, 64, 128, 400, 32

pytestmark = pytest.mark.benchmark


class Sizes:
    """What a decoder asks of its tokenizer."""

    size, max_length = VOCABULARY, LONGEST


class ReadsAnew(TransformerTextDecoder):
    """At every token, all that was written so far and no more."""

    def begin(self, z: Latent) -> Any:
        return torch.zeros(len(z), 0, dtype=torch.long), z

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        written, z = torch.cat([state[0], ids[:, None]], 1), state[1]
        return self.logits(written, written > -1, z)[:, -1], (written, z)


def made(kind: type[TransformerTextDecoder]) -> TransformerTextDecoder:
    torch.manual_seed(0)
    return kind(TransformerTextDecoderConfig(depth=2), Context(width=WIDTH, latent=WIDTH, tokenizer=Sizes())).eval()  # type: ignore[arg-type]


def test_the_cache_makes_writing_at_least_twice_as_fast(record_property: Any) -> None:
    kept, anew = made(TransformerTextDecoder), made(ReadsAnew)
    z = Latent(torch.randn(ITEMS, 16, WIDTH), torch.ones(ITEMS, 16, dtype=torch.bool), torch.randn(ITEMS, WIDTH))
    ratios = []
    for _ in range(ROUNDS):
        spent, found = [], []
        for decoder in (kept, anew):
            start = time.process_time()
            found.append(decoder.sample(z).ids)
            spent.append(time.process_time() - start)
        assert torch.equal(*found)
        ratios.append(spent[0] / spent[1])
    record_property("ratio", ratio := statistics.median(ratios))
    assert ratio < 0.5, f"with a cache {ratio:.2f} of the time without"
