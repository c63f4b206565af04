"""Our side of the comparison with muse-maskgit-pytorch, which is measured in tests/integration: it needs an installation from the network."""

from __future__ import annotations

import pytest

from tests.integration.test_peer_muse import BARS, SIZES, Ours


@pytest.mark.parametrize("kind", BARS)
def test_our_side_takes_a_step(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One round of what is measured, at small sizes."""
    for name, size in {"width": 16, "depth": 1, "heads": 2, "batch": 2, "words": 6}.items():
        monkeypatch.setitem(SIZES, name, size)
    Ours(kind).train()
