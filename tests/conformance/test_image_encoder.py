"""Every image_encoder keeps its contract."""

from __future__ import annotations

from ibllm_core.testing import ImageEncoderSuite, cover

#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {}

globals().update(cover(ImageEncoderSuite, "ibllm", PRESETS))
