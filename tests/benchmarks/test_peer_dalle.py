"""Our side of the comparison with dalle-pytorch, which is measured in tests/integration: it needs an installation from the network."""

from __future__ import annotations

import pytest

from tests.integration.test_peer_dalle import SIZES, Ours


def test_our_side_takes_a_step_and_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round of what is measured, at small sizes."""
    for name, size in {"width": 16, "depth": 1, "heads": 2, "batch": 2, "drawn": 1, "words": 6}.items():
        monkeypatch.setitem(SIZES, name, size)
    ours = Ours()
    ours.train()
    ours.sample()
