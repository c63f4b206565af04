"""Every text_encoder keeps its contract."""

from __future__ import annotations

from ibllm_testing import TextEncoderSuite, cover

#: What parts of the family unified borrow.
LM = {"lm": {"use": "unified", "depth": 1, "heads": 2}}
#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    "bag/dropout": {"options": {"word_dropout": 0.3}},
    "cnn/gelu": {"options": {"activation": "gelu", "pool": "max", "kernel": 5, "embed": 6, "dropout": 0.1}},
    "lstm/one way": {"options": {"bidirectional": False, "pool": "mean", "embed": 6, "layers": 1}},
    "transformer/dropout": {"options": {"depth": 1, "dropout": 0.1, "word_dropout": 0.3}},
    "transformer/causal": {"options": {"depth": 1, "causal": True}},
    "transformer/backbone": {"options": {"depth": 0, "backbone": "tower"}, "shared": {"tower": {"use": "transformer", "depth": 1}}},
    "transformer/rotary": {"options": {"depth": 1, "positions": "rotary"}},
    "unified": {"options": {"backbone": "lm"}, "shared": LM},
}

globals().update(cover(TextEncoderSuite, "ibllm", PRESETS, but=("pretrained",)))
