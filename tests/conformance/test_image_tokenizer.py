"""Every image_tokenizer keeps its contract."""

from __future__ import annotations

from ibllm_testing import ImageTokenizerSuite, cover

#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    "fsq": {"options": {"channels": [8], "blocks": 1, "levels": [4, 3, 3]}},
    "kl": {"options": {"channels": [8], "blocks": 1, "latents": 4}},
    "vq": {"options": {"channels": [8], "blocks": 1, "codes": 16, "code_width": 4}},
    "vq/gradient": {"options": {"channels": [8], "blocks": 1, "codes": 16, "decay": 0.0}},
}

globals().update(cover(ImageTokenizerSuite, "ibllm", PRESETS, but=("pretrained",)))
