"""Every schedule keeps its contract."""

from __future__ import annotations

from ibllm_testing import ScheduleSuite, cover

#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    "constant/warmup": {"options": {"warmup": 5}},
    "cosine/warmup": {"options": {"warmup": 5, "final": 0.1}},
    "linear/warmup": {"options": {"warmup": 5}},
    "piecewise": {"options": {"at": [0, 4, 9], "values": [1.0, 0.5, 0.25]}},
    "piecewise/lines": {"options": {"at": [3, 8], "values": [0.1, 1.0], "between": "lines"}},
    "step/every": {"options": {"every": 3}},
}

globals().update(cover(ScheduleSuite, "ibllm", PRESETS))
