"""A codec trained in a stage of its own, with a feature network and a critic; then a decoder on its latents, in the same run or in another one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ibllm_cli.main import main
from safetensors.torch import load_file

import ibllm

pytestmark = pytest.mark.usefixtures("plain_runs")

TINY = Path(__file__).parent / "tiny.toml"
LATENT = f"""
extends = "{TINY}"
order = ["image", "codec", "text", "joint"]
[model.image_tokenizer]
use = "kl"
channels = [8]
blocks = 0
latents = 4
[model.image_decoder]
works_on = "latents"
patch = 4
[losses]
reconstruction = {{ use = "reconstruction" }}
regularisation = {{ use = "codec_regularisation" }}
perceptual = {{ use = "perceptual" }}
codec_critic = {{ use = "hinge", of = "reconstruction" }}
codec_penalty = {{ use = "gradient_penalty", of = "reconstruction" }}
[metrics]
reconstruction = {{ use = "reconstruction" }}
scene = false
round_trip = false
[trackers]
tensorboard = false
[stages.image]
train = ["image_encoder", "text_decoder"]
losses = {{ image_nll = false, adversarial = false, penalty = false }}
[stages.codec]
steps = 4
train = ["image_tokenizer", "discriminator"]
losses = {{ reconstruction = 1.0, regularisation = 1.0, perceptual = 1.0, codec_critic = 0.1, codec_penalty = 1.0 }}
validate = {{ every = 2, items = 8, figure = "reconstruction_psnr" }}
[stages.joint]
steps = 3
[evaluation]
splits = ["test"]
after_stage = 0
"""
#: A flow over the latents of a codec from another run.
OTHER = """
extends = "latent.toml"
order = ["text"]
[model]
discriminator = false
image_encoder = false
text_decoder = false
image_decoder = { use = "flow", works_on = "latents", patch = 2, channels = [], depth = 1, heads = 2, steps = 2 }
[stages]
image = false
codec = false
joint = false
[stages.text]
init = { run = "first", parts = ["image_tokenizer"] }
[losses]
adversarial = false
penalty = false
cycle = false
joint = false
text_nll = false
regularisation = false
perceptual = false
codec_critic = false
codec_penalty = false
reconstruction = false
[metrics]
caption_facts = false
"""


def codecs(run: Path) -> dict[str, torch.Tensor]:
    weights = load_file(run / "model" / "weights.safetensors")
    return {name: tensor for name, tensor in weights.items() if name.startswith("parts.image_tokenizer.")}


def test_a_codec_is_trained_and_then_starts_another_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("latent", LATENT), ("other", OTHER)):
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    first, other = tmp_path / "first", tmp_path / "other"
    assert main(["run", str(tmp_path / "latent.toml"), "--run-dir", str(first)]) == 0
    rows = [json.loads(line) for line in (first / "metrics.jsonl").read_text().splitlines()]
    logged = {key for row in rows for key in row}
    assert {"loss/perceptual", "loss/codec_critic", "loss/critic/codec_critic", "loss/critic/codec_penalty", "loss/cycle"} <= logged
    assert "reconstruction_psnr" in json.loads((first / "run.json").read_text())["figures"]
    assert int(codecs(first)["parts.image_tokenizer.standardiser.steps"]) == 4, "its scale is estimated in its own stage alone"
    drawn = ibllm.open(first).model.generate(["a red circle"])
    assert drawn.shape == (1, 32, 32, 3)

    assert main(["run", str(tmp_path / "other.toml"), "--run-dir", str(other)]) == 0
    mine, theirs = codecs(other), codecs(first)
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in theirs), "it is frozen, its scale too"
    assert ibllm.open(other).model.generate(["a red circle"]).shape == (1, 32, 32, 3)

    # A decoder that does not fit the latents is told before anything is spent.
    capsys.readouterr()
    assert main(["check", str(tmp_path / "other.toml"), "--set", "model.image_decoder.patch=3"]) == 2
    told = capsys.readouterr().err
    assert "expected 3 to divide the image's height 8 and width 8; it works on latents, which are (c h w) = (4, 8, 8)" in told
