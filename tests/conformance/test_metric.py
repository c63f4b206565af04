"""Every metric keeps its contract."""

from __future__ import annotations

from ibllm_testing import MetricSuite, cover

#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    **{name: {"dataset": ("shapes", {"evaluation_size": 64})} for name in ("scene", "caption_facts", "round_trip", "residual")},
    **{name: {"dataset": ("shapes", {"evaluation_size": 64, "questions": True})} for name in ("vqa", "vqg")},
    "placement_spread": {"dataset": ("shapes", {"evaluation_size": 64}), "options": {"draws": 3}},
    "openmoji_names": {"dataset": ("openmoji", {"size": 32, "bases": 40, "toned": 8}), "split": "tone", "requires": ("emoji",)},
}

globals().update(cover(MetricSuite, "ibllm", PRESETS))
