"""A contrastive step with pretrained encoders against open_clip 3.3.0: at most its CPU time, paired in one run.

Matched work: images of 64 × 64 pixels in patches of 8, 32 tokens of 1000, both towers of width 256, 6 layers and 4 heads, all of it trained, a common space of
128, batch 16, AdamW; one thread each; parameters within 2 %. Ours are the two towers of a CLIP of transformers and the loss `contrastive`, which has a
projection of its own more.

The peer runs in an environment of its own, made for the run with pip; IBLLM_OPEN_CLIP_ENV names a folder to make it in, or one that has it already.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ibllm_objectives.config import ContrastiveConfig
from ibllm_objectives.contrastive import Contrastive
from ibllm_pretrained.config import PretrainedImageEncoderConfig, PretrainedTextEncoderConfig, PretrainedTokenizerConfig
from ibllm_pretrained.image_encoder import PretrainedImageEncoder
from ibllm_pretrained.text_encoder import PretrainedTextEncoder
from ibllm_pretrained.tokenizer import PretrainedTokenizer

from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Tokens
from ibllm_core.interfaces.tokenizer import BOS, EOS
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model

from .needs import needs
from .peers import paired, python_of, started

SIZES = {"vocabulary": 1000, "words": 32, "width": 256, "depth": 6, "heads": 4, "common": 128, "side": 64, "patch": 8, "batch": 16}


def write_clip(folder: Path) -> None:
    """A CLIP of these sizes with random weights, as its library saves it."""
    from tokenizers import Tokenizer, models
    from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

    names = {"pad_token": "0", "bos_token": "1", "eos_token": "2", "unk_token": "3"}
    coder = Tokenizer(models.WordLevel({str(number): number for number in range(SIZES["vocabulary"])}, "3"))
    PreTrainedTokenizerFast(tokenizer_object=coder, **names).save_pretrained(str(folder))
    width, layers = SIZES["width"], {"num_hidden_layers": SIZES["depth"], "num_attention_heads": SIZES["heads"], "hidden_act": "gelu"}
    both: dict[str, Any] = {"hidden_size": width, "intermediate_size": 4 * width, "projection_dim": SIZES["common"], **layers}
    text = {
        **both,
        "vocab_size": SIZES["vocabulary"],
        "max_position_embeddings": SIZES["words"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    vision = {**both, "image_size": SIZES["side"], "patch_size": SIZES["patch"]}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=SIZES["common"])).save_pretrained(str(folder))
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}', encoding="utf-8")


class Ours:
    """Both towers of a pair, tuned, and `contrastive`."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        write_clip(folder)
        tokenizer = PretrainedTokenizer(PretrainedTokenizerConfig(model=str(folder), max_length=SIZES["words"]), Context())
        side, width = SIZES["side"], SIZES["common"]
        latents = {"text_encoder": width, "image_encoder": width}
        context = Context(width=width, tokenizer=tokenizer, image_shape=(3, side, side), latents=latents)
        text = PretrainedTextEncoder(PretrainedTextEncoderConfig(mode="tuned", space="common"), context)
        image = PretrainedImageEncoder(PretrainedImageEncoderConfig(model=str(folder), mode="tuned", space="common"), context)
        self.model = Model({"text_encoder": text, "image_encoder": image}, {"text_encoder": tokenizer}, (3, side, side))
        self.loss = Contrastive(ContrastiveConfig(width=width), context)
        self.optimizer = torch.optim.AdamW([*self.model.parameters(), *self.loss.parameters()], lr=3e-4)
        ids = torch.randint(4, SIZES["vocabulary"], (SIZES["batch"], SIZES["words"]))
        ids[:, 0], ids[:, -1] = BOS, EOS
        x, y = Tokens(ids, torch.ones_like(ids, dtype=torch.bool)), torch.rand(SIZES["batch"], 3, side, side) * 2 - 1
        self.batch, self.steps = Batch(numbers=np.arange(SIZES["batch"]), x=x, y=y), 0

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in (*self.model.parameters(), *self.loss.parameters()))

    def train(self) -> None:
        self.model.train()
        self.steps += 1
        cycle = Cycle(self.model, self.batch, key=(0, self.steps))
        value = self.loss(cycle)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        self.optimizer.step()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of the peer's environment; with the same torch as ours where it is made here."""
    folder = Path(os.environ.get("IBLLM_OPEN_CLIP_ENV") or tmp_path_factory.mktemp("peer"))
    found = python_of(folder)
    if not found.exists():
        venv.create(folder, with_pip=True)
    here = "import open_clip, sys; sys.exit(open_clip.__version__ != '3.3.0')"
    if subprocess.run([str(found), "-c", here], check=False, stderr=subprocess.DEVNULL).returncode != 0:
        ours = f"torch=={torch.__version__.partition('+')[0]}"
        done = subprocess.run([str(found), "-m", "pip", "install", "--quiet", ours, "torchvision", "open_clip_torch==3.3.0"], check=False)
        needs("open_clip_torch, which pip cannot install here", done.returncode == 0)
    return found


def test_a_step_costs_no_more_than_the_peers(python: Path, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    ours = Ours(tmp_path)
    with started(python, "peer_open_clip.py", SIZES) as peer:
        parameters = peer.parameters
        print(f"parameters: ours {ours.parameters:,}, open_clip {parameters:,}", file=sys.stderr)
        ratio = paired("train", ours.train, peer, "open_clip")
    record_property("ratio", round(ratio, 3))
    assert abs(ours.parameters / parameters - 1) <= 0.02
    assert ratio <= 1.0
