"""Every registered decoder, exported: the graphs give what PyTorch gives, in a process that has neither ibllm nor torch, or the decoder is refused by name.

Needs ``pip install 'ibllm[export]'``.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ibllm_core.errors import UserError
from ibllm_core.host.manager import manager
from ibllm_core.model import build
from ibllm_core.recipe import load
from ibllm_core.recipe.document import to_toml
from ibllm_core.runs.model_folder import save_model

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
    "vq_transformer": {"depth": 1, "heads": 2},
    "vq_transformer/nucleus": {"depth": 1, "heads": 2, "top_p": 0.9, "null": 0.0, "guidance": 1.0},
}
WRITES: Mapping[str, Mapping[str, Any]] = {
    "lstm": {"layers": 1},
    "lstm/additive": {"layers": 2, "attention": "additive"},
    "transformer": {"depth": 1, "heads": 2},
}
#: Decoders that cannot be exported → the beginning of the reason.
REFUSED: Mapping[str, str] = {}
SHAPES = Path(__file__).parents[1] / "training" / "tiny.toml"
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


def trained(folder: Path, tables: Mapping[str, Any]) -> Path:
    """A model folder of a tiny model with random weights; what a decoder begins at 0 is moved, so that it does something."""
    import torch

    parts = {"discriminator": False, **tables["model"]}
    recipe_file = folder / "recipe.toml"
    codec = "image_tokenizer" in parts
    module = {"steps": 1, "train": ["text_encoder", "image_decoder", "image_encoder", "text_decoder"]}
    stages: dict[str, Any] = {"text": {**module, "losses": {"image_nll": 1.0, "text_nll": 1.0}}, "image": False, "joint": False}
    losses: dict[str, Any] = dict.fromkeys(("adversarial", "penalty", "cycle", "joint"), False)
    if codec:
        losses["codec"] = {"use": "reconstruction"}
        stages["codec"] = {"steps": 1, "train": ["image_tokenizer"], "losses": {"codec": 1.0}}
    text: dict[str, Any] = {
        "extends": str(SHAPES),
        "order": [*(["codec"] if codec else []), "text"],
        "model": parts,
        "losses": losses,
        "metrics": {"round_trip": False},
        "trackers": {"tensorboard": False},
        "stages": stages,
        "evaluation": {"splits": ["test"]},
    }
    recipe_file.write_text(to_toml(text), encoding="utf-8")
    recipe = load(recipe_file)
    dataset = build.build_dataset(recipe)
    tokenizers = build.build_tokenizers(recipe, [dataset])
    model = build.build_model(recipe, tokenizers, build.image_shape(recipe))
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    weights = {f"parts.{name.removeprefix('parts.')}": one for name, one in model.state_dict().items()}
    save_model(folder / "model", recipe, model, weights, tokenizers, {})
    return folder / "model"


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


def model_tables(side: str, name: str) -> dict[str, Any]:
    use, _, _ = name.partition("/")
    options = {"use": use, **(DRAWS if side == "draw" else WRITES)[name]}
    tables: dict[str, Any] = {"image_decoder" if side == "draw" else "text_decoder": options}
    if options.get("works_on") == "latents":
        tables["image_tokenizer"] = {"use": "kl", "patch": 8, "channels": [8], "blocks": 1, "latents": 4}
    elif use in ("maskgit", "vq_transformer"):
        tables["image_tokenizer"] = {"use": "fsq", "patch": 8, "channels": [8], "blocks": 1, "levels": [3, 3]}
    return tables


@pytest.mark.parametrize(("side", "name"), [*(("draw", name) for name in DRAWS), *(("write", name) for name in WRITES)])
def test_a_decoder_is_exported_or_refused(side: str, name: str, tmp_path: Path) -> None:
    from ibllm_export.export import export_onnx

    import ibllm

    opened = ibllm.open(trained(tmp_path, {"model": model_tables(side, name)}), device="cpu")
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
    said = alone(tmp_path / "onnx", "caption", str(tmp_path / "a.png")).strip()
    assert said == f"{tmp_path / 'a.png'}: {opened.model.caption(picture[None], beams=1)[0]}"
    assert json.loads((tmp_path / "onnx" / "export.json").read_text())["format"] == 1
