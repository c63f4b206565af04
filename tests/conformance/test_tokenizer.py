"""Every tokenizer keeps its contract."""

from __future__ import annotations

from ibllm_testing import TokenizerSuite, cover

#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    "word": {"options": {"size": 32, "max_length": 12}},
    "word/lowercase": {"options": {"size": 32, "max_length": 12, "lowercase": True}},
    "bpe": {"options": {"size": 300, "max_length": 12}},
}

globals().update(cover(TokenizerSuite, "ibllm", PRESETS, but=("pretrained",)))
