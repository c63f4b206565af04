"""Every image_decoder keeps its contract."""

from __future__ import annotations

from ibllm_testing import ImageDecoderSuite, cover

#: What parts of the family unified borrow.
LM = {"lm": {"use": "unified", "depth": 1, "heads": 2}}
#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    "attngan": {"options": {"channels": 8, "groups": 4, "noise": 6}},
    "attngan/augmentation": {"options": {"channels": 8, "groups": 4, "noise": 6, "augmentation": 5, "stages": 1}},
    "cnn": {"options": {"channels": [16, 8]}},
    "cnn/noise": {"options": {"channels": [16, 8], "blocks": 1, "noise": 5, "exponent": 1.0, "focus": 2.0}},
    "cross_attention": {"options": {"depth": 1, "channels": 4}},
    "cross_attention/latents": {"options": {"depth": 1, "channels": 4, "works_on": "latents"}},
    "cross_attention/no noise": {"options": {"depth": 1, "channels": 4, "noise": 0, "joins": 0, "shade_width": 8}},
    "dcgan": {"options": {"channels": [16, 8]}},
    "dcgan/augmentation": {"options": {"channels": [16, 8], "upsample": "nearest", "augmentation": 5, "noise": 0}},
    "dfgan": {"options": {"channels": 4, "hidden": 8}},
    "dfgan/augmentation": {"options": {"channels": 4, "hidden": 8, "augmentation": 5}},
    "flow": {"options": {"depth": 1, "patch": 4, "steps": 2}},
    "flow/latents": {"options": {"depth": 1, "patch": 4, "steps": 2, "works_on": "latents"}},
    "flow/guided": {"options": {"depth": 1, "patch": 4, "steps": 2, "predict": "velocity", "solver": "heun", "guidance": 2.0, "null": 0.4}},
    "maskgit": {"options": {"depth": 1, "steps": 3}},
    "maskgit/plain": {"options": {"depth": 1, "steps": 2, "temperature": 0.0, "choice": 0.0, "null": 0.0, "guidance": 1.0}},
    "unified": {"options": {"backbone": "lm"}, "shared": LM},
    "unified/guided": {"options": {"backbone": "lm", "null": 0.4, "guidance": 2.0, "top_p": 0.9, "token_dropout": 0.2}, "shared": LM},
    "unified/likeliest": {"options": {"backbone": "lm", "temperature": 0.0}, "shared": LM},
    "unified/masked": {"options": {"backbone": "lm", "writes": "masked", "null": 0.4, "guidance": 2.0, "steps": 3}, "shared": LM},
    "unified/flow": {"options": {"backbone": "lm", "writes": "flow", "steps": 2, "null": 0.4, "guidance": 2.0}, "shared": LM},
    "unified/latents": {"options": {"backbone": "lm", "writes": "flow", "works_on": "latents", "solver": "heun", "steps": 2}, "shared": LM},
    "vq_transformer": {"options": {"depth": 1}},
    "vq_transformer/caption": {"options": {"depth": 1, "caption": True, "top_p": 0.9, "dropout": 0.1}},
    "vq_transformer/likeliest": {"options": {"depth": 1, "temperature": 0.0, "null": 0.0, "guidance": 1.0}},
}

globals().update(cover(ImageDecoderSuite, "ibllm", PRESETS))
