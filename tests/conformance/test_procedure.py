"""Every procedure keeps its contract."""

from __future__ import annotations

from ibllm_testing import ProcedureSuite, cover

#: Component (or component/variant) → what its class says.
PRESETS: dict[str, dict[str, object]] = {
    "lookahead/every": {"options": {"every": 3, "alpha": 0.3}},
}

globals().update(cover(ProcedureSuite, "ibllm", PRESETS))
