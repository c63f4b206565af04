"""Every optimizer keeps its contract."""

from __future__ import annotations

from ibllm_testing import OptimizerSuite, cover

#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    "muon": {"options": {"lr": 0.02}},
    "adamw/decay": {"options": {"weight_decay": 0.5}},
    "sgd/momentum": {"options": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}},
    "schedule_free": {"requires": ("schedulefree",)},
}

globals().update(cover(OptimizerSuite, "ibllm", PRESETS))
