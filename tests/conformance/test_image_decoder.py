"""Every image_decoder keeps its contract."""

from __future__ import annotations

from ibllm_core.testing import ImageDecoderSuite, cover

#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    "cnn/noise": {"options": {"channels": [16, 8], "blocks": 1, "noise": 5, "exponent": 1.0, "focus": 2.0}},
}

globals().update(cover(ImageDecoderSuite, "ibllm", PRESETS))
