"""The script that times `recipes/llm/card.toml` beside Llama works; what it measures needs a card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .unified_card import main, sizes


def test_a_tiny_round(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.compile", lambda forward: forward)  # which a machine without a compiler lacks, and which takes a minute
    assert main(["--tiny", "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["places"]["ours"] == found["places"]["llama"] and found["compiled"]["ratio"] > 0
    assert "| compiled |" in capsys.readouterr().out


def test_the_sizes_are_the_recipes() -> None:
    size = sizes(16)
    assert (size["width"], size["depth"], size["heads"]) == (1280, 24, 20)
