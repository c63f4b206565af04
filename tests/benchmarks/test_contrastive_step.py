"""Our side of the comparison with open_clip, which is measured in tests/integration: it needs an installation from the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.test_peer_open_clip import SIZES, Ours

pytest.importorskip("transformers")


def test_our_side_takes_a_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One round of what is measured, at small sizes."""
    for name, size in {"width": 16, "depth": 1, "heads": 2, "batch": 2, "common": 8, "words": 6, "side": 16}.items():
        monkeypatch.setitem(SIZES, name, size)
    Ours(tmp_path).train()
