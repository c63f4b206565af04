"""Every text_encoder keeps its contract."""

from __future__ import annotations

from pathlib import Path

from ibllm_testing import TextEncoderSuite, cover

#: What a text encoder reads with that looks things up: its names are made of the tests' letters.
KNOWING = {
    "words": {"kind": "text_encoder", "use": "bag"},
    "facts": {"use": "graph", "path": str(Path(__file__).parents[1] / "graph" / "letters.tsv"), "width": 6, "neighbours": 2},
}

#: What parts of the family unified borrow.
LM = {"lm": {"use": "unified", "depth": 1, "heads": 2}}
#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    "bag/dropout": {"options": {"word_dropout": 0.3}},
    "cnn/gelu": {"options": {"activation": "gelu", "pool": "max", "kernel": 5, "embed": 6, "dropout": 0.1}},
    "knowledge": {"options": {"heads": 2}, "shared": KNOWING},
    "knowledge/tokens": {"options": {"heads": 2, "join": "tokens", "dropout": 0.1}, "shared": KNOWING},
    "lstm/one way": {"options": {"bidirectional": False, "pool": "mean", "embed": 6, "layers": 1}},
    "transformer/dropout": {"options": {"depth": 1, "dropout": 0.1, "word_dropout": 0.3}},
    "transformer/causal": {"options": {"depth": 1, "causal": True}},
    "transformer/backbone": {"options": {"depth": 0, "backbone": "tower"}, "shared": {"tower": {"use": "transformer", "depth": 1}}},
    "transformer/rotary": {"options": {"depth": 1, "positions": "rotary"}},
    "unified": {"options": {"backbone": "lm"}, "shared": LM},
}

globals().update(cover(TextEncoderSuite, "ibllm", PRESETS, but=("pretrained",)))
