"""Every image_encoder keeps its contract."""

from __future__ import annotations

from ibllm_testing import ImageEncoderSuite, cover

#: What parts of the family unified borrow.
LM = {"lm": {"use": "unified", "depth": 1, "heads": 2}}
#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    "cnn": {"options": {"channels": [8, 16]}},
    "cnn/factored": {"options": {"channels": [8, 16], "factored": True, "dropout": 0.1}},
    "resnet": {"options": {"channels": [8, 16], "blocks": [1, 1]}},
    "resnet/18": {"options": {"channels": [8, 8, 16], "blocks": [2, 2, 2], "stem": 7, "pool": True, "dropout": 0.1}},
    "vit": {"options": {"depth": 1}},
    "vit/dropout": {"options": {"depth": 1, "patch": 4, "dropout": 0.1}},
    "unified": {"options": {"backbone": "lm"}, "shared": LM},
    "unified/factored": {"options": {"backbone": "lm", "factored": True, "channels": [4, 8]}, "shared": LM},
}

globals().update(cover(ImageEncoderSuite, "ibllm", PRESETS, but=("pretrained",)))
