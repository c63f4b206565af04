"""Every metric keeps its contract."""

from __future__ import annotations

from pathlib import Path

from ibllm_testing import MetricSuite, cover

EMOJI = Path(__file__).parents[1] / "emoji" / "archives"
#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    **{name: {"dataset": ("shapes", {"evaluation_size": 64})} for name in ("scene", "caption_facts", "round_trip", "residual")},
    **{name: {"dataset": ("shapes", {"evaluation_size": 64, "questions": True})} for name in ("vqa", "vqg")},
    "placement_spread": {"dataset": ("shapes", {"evaluation_size": 64}), "options": {"draws": 3}},
    "emoji_styles": {"dataset": ("emoji_styles", {"path": str(EMOJI)}), "split": "concept", "requires": ("resvg_py",)},
    "openmoji_names": {"dataset": ("openmoji", {"size": 32, "bases": 40, "toned": 8}), "split": "tone", "requires": ("emoji",)},
}

globals().update(cover(MetricSuite, "ibllm", PRESETS))
