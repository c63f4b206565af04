"""Every tracker keeps its contract."""

from __future__ import annotations

from ibllm_testing import TrackerSuite, cover

#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {"mlflow": {"requires": ("mlflow",)}}

globals().update(cover(TrackerSuite, "ibllm", PRESETS))
