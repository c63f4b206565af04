"""Pretrained parts of every kind in one model: trained, stopped and gone on with, opened without its language model's folder, used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from ibllm_cli.main import cli, main
from PIL import Image

import ibllm
from ibllm.plugin import UserError
from tests.pretrained.models import TOKENS

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

RECIPE = """
format = 1
name = "all"
order = ["text", "image"]

[data]
use = "shapes"
questions = true

[tokenizers.pair]
use = "pretrained"
model = "clip"
max_length = 14

[tokenizers.words]
use = "pretrained"
model = "llama"
max_length = 30

[model]
width = 12
text_encoder = { use = "pretrained", tokenizer = "pair", space = "common" }
image_decoder = { use = "dcgan", channels = [16, 8] }
image_encoder = { use = "pretrained", model = "clip", space = "common" }
text_decoder = { use = "pretrained", tokenizer = "words", mode = "lora", rank = 2, targets = ["q_proj"], projector = "linear" }

[losses]
image_nll = { use = "image_nll" }
text_nll = { use = "text_nll" }
answer_nll = { use = "answer_nll" }

[metrics]
clip_score = { use = "clip_score", model = "clip" }

[optimizer]
use = "adamw"
lr = 1e-3

[training]
batch = 4
checkpoint_every = 1

[stages.text]
steps = 2
train = ["text_encoder", "image_decoder"]
losses = { image_nll = 1.0 }

[stages.image]
steps = 2
train = ["image_encoder", "text_decoder"]
losses = { text_nll = 1.0, answer_nll = 1.0 }

[evaluation]
items = 4
after_stage = 0
samples = 1
beams = 2

[compute]
threads = 1
activation_checkpointing = true
"""


def said(*words: str) -> str:
    done = CliRunner().invoke(cli, list(words))
    assert done.exit_code == 0, f"{done.output}\n{done.exception}"
    return done.output


@pytest.fixture(scope="module")
def folder(model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe beside the folders that it names, and its run."""
    made = tmp_path_factory.mktemp("all")
    for kind in ("clip", "llama"):
        shutil.copytree(model_folder(kind), made / kind)
    (made / "llama" / "README.md").write_text("---\nlicense: llama3.2\n---\n# A model\n", encoding="utf-8")
    (made / "r.toml").write_text(RECIPE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        said("run", "r.toml", "--run-dir", "run")
    return made


@pytest.mark.slow
def test_the_record_says_whose_models_they_are(folder: Path) -> None:
    info = json.loads((folder / "run" / "run.json").read_text(encoding="utf-8"))
    entry = info["provenance"]["tokenizers.words"]
    assert (entry["licence"], Path(entry["model"]).name, len(entry["sha256"])) == ("llama3.2", "llama", 64)
    pair = {info["provenance"][key]["sha256"] for key in ("tokenizers.pair", "model.image_encoder", "metrics.clip_score")}
    assert len(pair) == 1 and len(pair.pop()) == 64
    measured = info["metrics"]["test"]["clip_score"]
    assert measured["extractor"] == "clip (clip)" and measured["sha256"] == info["provenance"]["tokenizers.pair"]["sha256"]
    card = ibllm.open(folder / "run").save_pretrained(folder / "kept")
    text = (card / "README.md").read_text(encoding="utf-8")
    assert f"began as the pretrained model `llama`: licence llama3.2, sha256 of its weights `{entry['sha256']}`" in text


@pytest.mark.slow
def test_figures_are_the_pairs_own(folder: Path) -> None:
    """CLIPScore of the data's own pairs is 2.5 · max(cos, 0) by the library's model."""
    run = ibllm.open(folder / "run")
    samples = run.dataset.samples("test", np.arange(4))
    model = transformers.CLIPModel.from_pretrained(folder / "clip", attn_implementation="eager").eval()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ([0.48, 0.46, 0.41], [0.27, 0.26, 0.28]))
    pixels = (torch.from_numpy(samples.images).permute(0, 3, 1, 2) / 255 - mean) / std
    scores = []
    with torch.no_grad():
        y = torch.nn.functional.normalize(model.get_image_features(pixels).pooler_output, dim=-1)
        for caption, image in zip(samples.captions, y, strict=True):
            known = [TOKENS.index(word) if word in TOKENS else 3 for word in caption.replace(",", " ,").replace(".", " .").split()]
            hidden = model.text_model(torch.tensor([[1, *known[:14], 2]])).last_hidden_state[:, -1]
            x = torch.nn.functional.normalize(model.text_projection(hidden), dim=-1)[0]
            scores.append(2.5 * max(float(x @ image), 0.0))
    assert run.results["test/clip_score_data"] == pytest.approx(float(np.mean(scores)), abs=1e-5)
    assert all(f"test/clip_score{one}" in run.results for one in ("", "_read", "_mixed"))


@pytest.mark.slow
def test_agreement_is_measured_in_the_pairs_space(folder: Path) -> None:
    run = ibllm.open(folder / "run")
    assert run.agrees_by == "the common space of the pretrained pair clip"
    picture = Image.fromarray(run.dataset.samples("test", np.arange(1)).images[0])
    x, y = run.encode_text("a red circle"), run.encode_image(picture)
    cosine = float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
    assert run.score(picture, "a red circle").agreement == pytest.approx(cosine, abs=1e-5)


@pytest.mark.slow
def test_it_is_used_where_the_language_models_folder_is_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    picture = next((folder / "run" / "samples").glob("*real.png"))
    wanted = said("caption", "run", str(picture))
    answered = said("ask", "run", str(picture), "what colour is the circle ?")
    said("generate", "run", "a red circle", "-o", str(folder / "drawn.png"))
    (folder / "llama").rename(folder / "gone")
    (folder / "clip" / "model.safetensors").rename(folder / "gone.safetensors")
    try:
        assert said("caption", "run", str(picture)) == wanted
        assert said("ask", "run", str(picture), "what colour is the circle ?") == answered
        assert main(["run", "r.toml", "--run-dir", "other"]) == 2
        assert "a folder or an installed package; there is neither of this name" in capsys.readouterr().err
    finally:
        (folder / "gone").rename(folder / "llama")
        (folder / "gone.safetensors").rename(folder / "clip" / "model.safetensors")


@pytest.mark.slow
def test_it_goes_on_where_it_was_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken back to a checkpoint in the midst of its last stage, it ends with the same weights."""
    from safetensors.torch import load_file

    monkeypatch.chdir(folder)
    shutil.copytree(folder / "run", folder / "again")
    for late in ("step-0000004", "step-0000004-end"):
        shutil.rmtree(folder / "again" / "checkpoints" / late, ignore_errors=True)
    info = json.loads((folder / "again" / "run.json").read_text(encoding="utf-8"))
    (folder / "again" / "run.json").write_text(json.dumps({**info, "status": "interrupted"}), encoding="utf-8")
    said("run", "again", "--resume")
    before, after = (load_file(folder / name / "model" / "weights.safetensors") for name in ("run", "again"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_pair_is_needed(model_folder: Callable[[str], Path]) -> None:
    from ibllm_pretrained.metric import Pair

    with pytest.raises(ValueError, match="expected a pair like CLIP or SigLIP, not model_type = 'llama'"):
        Pair(str(model_folder("llama")), (3, 32, 32), torch.device("cpu"))


def options(**more: Any) -> Any:
    from ibllm_pretrained.config import ClipScoreConfig

    return ClipScoreConfig(model="nowhere", **more)


def test_it_needs_what_it_judges() -> None:
    assert options(judges=("read",)).needs() == {"image_encoder", "text_decoder", "data.pairs"}
    assert [figure.name for figure in options(judges=("drawn",)).figures()] == ["clip_score", "clip_score_data", "clip_score_mixed"]
    assert issubclass(UserError, ValueError)
