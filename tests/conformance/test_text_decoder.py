"""Every text_decoder keeps its contract."""

from __future__ import annotations

from ibllm_testing import TextDecoderSuite, cover

#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    "lstm/additive": {"options": {"attention": "additive", "embed": 6, "dropout": 0.1, "word_dropout": 0.3}},
    "lstm/no attention": {"options": {"attention": "none", "layers": 1}},
    "transformer/dropout": {"options": {"depth": 1, "dropout": 0.1, "word_dropout": 0.3}},
}

globals().update(cover(TextDecoderSuite, "ibllm", PRESETS))
