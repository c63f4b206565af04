"""Every registered decoder, exported: the graphs give what PyTorch gives, in a process that has neither ibllm nor torch, or the decoder is refused by name.

Needs ``pip install 'ibllm[export]'``.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ibllm_core.errors import UserError
from ibllm_core.host.manager import manager
from tests.export.untrained import untrained

from .needs import needs

#: Component (or component/variant) → options that make it small, and of the model around it.
DRAWS: Mapping[str, Mapping[str, Any]] = {
    "attngan": {"channels": 8, "groups": 4},
    "attngan/augmentation": {"channels": 8, "groups": 4, "augmentation": 5},
    "cnn": {"channels": [16, 8]},
    "cnn/noise": {"channels": [16, 8], "noise": 5},
    "cross_attention": {"depth": 1, "channels": 4, "heads": 2},
    "cross_attention/latents": {"depth": 1, "channels": 4, "patch": 2, "heads": 2, "works_on": "latents"},
    "dcgan": {"channels": [16, 8]},
    "dcgan/augmentation": {"channels": [16, 8], "augmentation": 5},
    "dfgan": {"channels": 4, "hidden": 8},
    "flow": {"depth": 1, "patch": 8, "steps": 3, "heads": 2},
    "flow/guided": {"depth": 1, "patch": 8, "steps": 2, "heads": 2, "predict": "velocity", "solver": "heun", "guidance": 2.0, "null": 0.4},
    "flow_vae": {"depth": 1, "heads": 2, "channels": 4, "prior_depth": 1},
    "flow_vae/slots": {"depth": 1, "heads": 2, "channels": 4, "prior_depth": 1, "places": "slots", "extra": 2},
    "maskgit": {"depth": 1, "steps": 3, "heads": 2},
    "seed": {},
    "unified": {"backbone": "lm"},
    "unified/masked": {"backbone": "lm", "writes": "masked", "steps": 3, "null": 0.1, "guidance": 2.0},
    "unified/flow": {"backbone": "lm", "writes": "flow", "patch": 8, "steps": 2},
    "vq_transformer": {"depth": 1, "heads": 2},
    "vq_transformer/nucleus": {"depth": 1, "heads": 2, "top_p": 0.9, "null": 0.0, "guidance": 1.0},
}
WRITES: Mapping[str, Mapping[str, Any]] = {
    "lstm": {"layers": 1},
    "lstm/additive": {"layers": 2, "attention": "additive"},
    "pretrained/llama": {},
    "pretrained/qwen2": {},
    "pretrained/gpt2": {},
    "pretrained/t5": {},
    "transformer": {"depth": 1, "heads": 2},
    "unified": {"backbone": "lm"},
}
#: Decoders that cannot be exported → the beginning of the reason.
REFUSED: Mapping[str, str] = {"pretrained/t5": "read.onnx differs from PyTorch by"}
#: Runs the program of an exported folder where neither ibllm nor torch can be imported.
ALONE = """
import runpy, sys
for name in ("torch", "ibllm", "ibllm_core", "ibllm_export", "safetensors", "tokenizers"):
    sys.modules[name] = None
sys.argv = ["run_onnx.py", *sys.argv[2:]]
runpy.run_path(FOLDER + "/run_onnx.py", run_name="__main__")
""".replace("FOLDER", "__import__('os').environ['FOLDER']")


@pytest.fixture(autouse=True)
def _packages() -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        needs(name, importlib.util.find_spec(name) is not None)


def alone(folder: Path, *words: str) -> str:
    """What the folder's program prints."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder), *words],
        env={"FOLDER": str(folder), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_decoder_is_walked() -> None:
    """A new decoder has to be added here: exported, or refused with its reason."""
    for kind, walked in (("image_decoder", DRAWS), ("text_decoder", WRITES)):
        known = set(manager(()).names(kind))
        assert known == {name.partition("/")[0] for name in walked}


@pytest.fixture
def pretrained(tmp_path: Path) -> Callable[[str], Path]:
    """The folder of a model of that architecture with random weights."""

    def folder(kind: str) -> Path:
        needs("transformers", importlib.util.find_spec("transformers") is not None)
        import torch
        import transformers

        from tests.pretrained.models import PREPROCESSORS, language_models, vision_models, write_preprocessor, write_tokenizer

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            (language_models() | vision_models())[kind](transformers).eval().save_pretrained(str(tmp_path / kind))
        write_tokenizer(tmp_path / kind)
        if kind in PREPROCESSORS:
            write_preprocessor(tmp_path / kind, kind)
        return tmp_path / kind

    return folder


def model_tables(side: str, name: str) -> dict[str, Any]:
    use, _, _ = name.partition("/")
    options = {"use": use, **(DRAWS if side == "draw" else WRITES)[name]}
    tables: dict[str, Any] = {"image_decoder" if side == "draw" else "text_decoder": options}
    if "backbone" in options:
        tables["shared"] = {"lm": {"use": "unified", "depth": 1, "heads": 2}}
    if options.get("works_on") == "latents":
        tables["image_tokenizer"] = {"use": "kl", "patch": 8, "channels": [8], "blocks": 1, "latents": 4}
    elif use in ("maskgit", "vq_transformer") or (name in ("unified", "unified/masked") and side == "draw"):
        tables["image_tokenizer"] = {"use": "fsq", "patch": 16, "channels": [8], "blocks": 1, "levels": [3, 3]}
    return tables


@pytest.mark.parametrize(("side", "name"), [*(("draw", name) for name in DRAWS), *(("write", name) for name in WRITES)])
def test_a_decoder_is_exported_or_refused(side: str, name: str, tmp_path: Path, pretrained: Callable[[str], Path]) -> None:
    from ibllm_export.export import export_onnx

    import ibllm

    tables: dict[str, Any] = {"model": model_tables(side, name)}
    use, _, kind = name.partition("/")
    if use == "pretrained":
        tables["tokenizers"] = {"lm": {"use": "pretrained", "model": str(pretrained(kind)), "max_length": 20}}
        tables["model"]["text_decoder"]["tokenizer"] = "lm"
    opened = ibllm.open(untrained(tmp_path, tables), device="cpu")
    if name in REFUSED:
        with pytest.raises(UserError, match=REFUSED[name]):
            export_onnx(opened, tmp_path / "onnx", "", 0, lambda text: None)
        return
    report = export_onnx(opened, tmp_path / "onnx", "", 0, lambda text: None)
    assert set(report.differences) == {"draw", "read", "step"}
    assert all(found <= 1e-3 for found in report.differences.values()), report.differences
    assert report.texts[0] == 0
    drawn = alone(tmp_path / "onnx", "generate", "a small red circle at the top left", "a big blue square", "-o", str(tmp_path / "out.png"))
    assert drawn.strip() == str(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (64, 32) and np.asarray(image).std() > 0
    picture = opened.dataset.samples("test", np.arange(1)).images[0]
    Image.fromarray(picture).save(tmp_path / "a.png")
    if use == "pretrained":
        assert report.notes == ["tokenizer-lm.json: run_onnx.py reads and writes ids only, not texts, of the tokenizer 'pretrained'"]
        return
    assert not report.notes
    said = alone(tmp_path / "onnx", "caption", str(tmp_path / "a.png")).strip()
    assert said == f"{tmp_path / 'a.png'}: {opened.model.caption(picture[None], beams=1)[0]}"
    assert json.loads((tmp_path / "onnx" / "export.json").read_text())["format"] == 1


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "vit"])
def test_a_pretrained_image_encoder_is_exported(kind: str, tmp_path: Path, pretrained: Callable[[str], Path]) -> None:
    from ibllm_export.export import export_onnx

    import ibllm

    encoder = {"use": "pretrained", "model": str(pretrained(kind)), "mode": "frozen"}
    opened = ibllm.open(untrained(tmp_path, {"model": {"image_encoder": encoder}}), device="cpu")
    report = export_onnx(opened, tmp_path / "onnx", "", 0, lambda text: None)
    assert all(found <= 1e-3 for found in report.differences.values()), report.differences


def test_what_onnx_has_no_operator_for_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from ibllm_cli.main import main
    from ibllm_gan.cross_attention import CrossAttentionGenerator

    sample = CrossAttentionGenerator.sample
    monkeypatch.setattr(CrossAttentionGenerator, "sample", lambda self, z, rng: torch.special.bessel_j0(sample(self, z, rng)))
    code = main(["export", str(untrained(tmp_path, {"model": {}})), "-o", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert code == 2 and "Traceback" not in said
    assert "model.image_decoder = cross_attention (provided by ibllm " in said
    assert " cannot be exported (writing draw.onnx): " in said and "bessel_j0" in said
    assert not (tmp_path / "out").exists()
