"""Every loss keeps its contract."""

from __future__ import annotations

from ibllm_core.testing import LossSuite, cover

#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {}

globals().update(cover(LossSuite, "ibllm", PRESETS))
