"""Every backbone keeps its contract."""

from __future__ import annotations

from ibllm_testing import BackboneSuite, cover

PRESETS: dict[str, dict[str, object]] = {"transformer/dropout": {"options": {"depth": 1, "dropout": 0.1, "width": 8}}}

globals().update(cover(BackboneSuite, "ibllm", PRESETS))
