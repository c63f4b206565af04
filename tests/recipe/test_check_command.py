"""``ibllm check`` on a good recipe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ibllm_cli.main import main

from ibllm_core.host.manager import Manager

BASE = Path(__file__).parent / "bad" / "base.toml"


def test_parts_and_stages_with_their_sizes(stranger: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    sets = ("metrics.counted=false", 'stages.image.validate.figure=""', "model.width=32")
    assert main(["check", str(BASE), *(word for text in sets for word in ("--set", text))]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("base: no mistakes; the parts fit\n")
    for part in ("text_encoder", "image_decoder", "image_encoder", "text_decoder", "discriminator", "together"):
        assert re.search(rf"^{part} .* \d[\d.]* [kM] .* \d[\d.]* [MG] .*[KM]iB .*[KM]iB$", shown, re.MULTILINE), part
    assert re.search(
        r"^image +7  text_nll, image_nll, adversarial, penalty +\d[\d.]* [kM] +\d[\d.]* [MG] +[\d.]+ MiB$", shown, re.MULTILINE
    )
