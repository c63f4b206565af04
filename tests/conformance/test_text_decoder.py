"""Every text_decoder keeps its contract."""

from __future__ import annotations

from ibllm_testing import TextDecoderSuite, cover

#: What parts of the family unified borrow.
LM = {"lm": {"use": "unified", "depth": 1, "heads": 2}}
#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    "lstm/additive": {"options": {"attention": "additive", "embed": 6, "dropout": 0.1, "word_dropout": 0.3}},
    "lstm/no attention": {"options": {"attention": "none", "layers": 1}},
    "transformer/dropout": {"options": {"depth": 1, "dropout": 0.1, "word_dropout": 0.3}},
    "unified": {"options": {"backbone": "lm"}, "shared": LM},
    "unified/dropout": {"options": {"backbone": "lm", "word_dropout": 0.3}, "shared": {"lm": {**LM["lm"], "dropout": 0.1}}},
}

globals().update(cover(TextDecoderSuite, "ibllm", PRESETS, but=("pretrained",)))
