"""The recipe llm/llava.toml on small models: a vision encoder, a projector, a language model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ibllm_cli.main import main

RECIPE = Path(__file__).parents[2] / "recipes" / "llm" / "llava.toml"
#: Tiny models have tiny widths and little room.
SMALL = {
    "model.width": "8",
    "tokenizers.words.max_length": "24",
    "stages.projector.steps": "2",
    "stages.adapters.steps": "2",
    "training.batch": "4",
    "evaluation.items": "4",
    "evaluation.samples": "1",
    "compute.threads": "1",
}


def test_folders_that_are_not_there_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", str(RECIPE)]) == 2
    told = capsys.readouterr().err
    assert (
        'tokenizers.words.model: "models/language" is refused' in told and 'model.image_encoder.model: "models/vision" is refused' in told
    )
    assert "2 mistakes; nothing was started" in told


@pytest.mark.slow
def test_it_trains_the_projector_and_then_the_adapters(
    model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    monkeypatch.chdir(tmp_path)
    given = {
        "model.image_encoder.model": json.dumps(str(model_folder("siglip"))),
        "tokenizers.words.model": json.dumps(str(model_folder("qwen3"))),
    }
    sets = [word for key, value in {**given, **SMALL}.items() for word in ("--set", f"{key}={value}")]
    assert main(["run", str(RECIPE), "--run-dir", "run", *sets]) == 0
    first, last = (load_file(next((tmp_path / "run" / "checkpoints").glob(f"step-{n:07d}-end")) / "weights.safetensors") for n in (2, 4))
    adapters = [name for name in last if "lora_B" in name]
    assert adapters and not any(bool(first[name].any()) for name in adapters)
    assert all(bool(last[name].any()) for name in adapters)
    assert any(not bool((first[name] == last[name]).all()) for name in last if "projector" in name)
    info = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert {info["provenance"][key]["component"] for key in ("model.image_encoder", "model.text_decoder")} == {
        "image_encoder.pretrained",
        "text_decoder.pretrained",
    }
