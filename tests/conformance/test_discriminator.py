"""Every discriminator keeps its contract."""

from __future__ import annotations

from ibllm_testing import DiscriminatorSuite, cover

#: Component (or component/variant) → what its class says; sizes small enough to be quick.
PRESETS: dict[str, dict[str, object]] = {
    "dcgan": {"options": {"channels": [8, 16]}},
    "dfgan": {"options": {"channels": 4}},
    "matching_aware": {"options": {"channels": [8, 16], "width": 8}},
    "patchgan": {"options": {"channels": [8, 16]}},
    "projection": {"options": {"channels": [8, 16]}},
    "projection/free": {"options": {"channels": [8, 16], "spectral_norm": False}},
    "r3gan": {"options": {"channels": [8, 16], "group": 8}},
}

globals().update(cover(DiscriminatorSuite, "ibllm", PRESETS))
