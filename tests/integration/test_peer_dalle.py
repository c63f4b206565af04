"""A training step and cached drawing against dalle-pytorch 1.6.6: at most its CPU time, paired in one run.

Matched work: 64 × 64 pixels as 8 × 8 tokens of 512, 32 words of 1000, width 256, depth 4, 4 heads of 64, batch 16, the text's loss with it, Adam;
one thread each; parameters within 2 %. Both are handed token ids. The peer's feed-forward part is gated (two matrices in, one out, each 4 times
the width), ours is not (one in, one out, 6 times the width): the same multiplications and parameters.

The peer runs in an environment of its own, made for the run with pip; IBLLM_PEER_ENV names a folder to make it in and to find it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ibllm_testing.stand_ins import LetterTokenizer
from ibllm_transformer.config import CaptionImageNLLConfig, TransformerTextEncoderConfig, VQTransformerConfig
from ibllm_transformer.loss import CaptionImageNLL
from ibllm_transformer.text_encoder import TransformerTextEncoder
from ibllm_transformer.vq_transformer import VQTransformer
from torch import Tensor

from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.context import Context, ImageTokens
from ibllm_core.interfaces.image import ImageTokenizer, Reconstruction
from ibllm_core.interfaces.latent import Tokens
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.tokenizer import BOS, EOS
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model

from .peers import environment, paired, started

SIZES = {"image_vocabulary": 512, "text_vocabulary": 1000, "words": 32, "width": 256, "depth": 4, "heads": 4, "batch": 16, "drawn": 4}
#: setuptools for its pkg_resources; --no-deps leaves out what only its pretrained image tokenizers and data loaders need.
PEER = ("dalle-pytorch==1.6.6",)
PEER_NEEDS = ("setuptools<81", "numpy", "einops", "axial-positional-embedding==0.3.12", "rotary-embedding-torch==0.9.1")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of the peer's environment, which has the same torch as ours."""
    folder = Path(os.environ.get("IBLLM_PEER_ENV") or tmp_path_factory.mktemp("peer"))
    return environment(folder, "dalle-pytorch", PEER_NEEDS, PEER)


class Given(ImageTokenizer):
    """Says the ids it was given: both sides start from tokens."""

    vocabulary, grid = SIZES["image_vocabulary"], (8, 8)

    def __init__(self, ids: Tensor) -> None:
        super().__init__()
        self.ids = ids

    def encode(self, y: Tensor) -> Tensor:
        return self.ids

    def decode(self, ids: Tensor) -> Tensor:
        raise NotImplementedError

    def reconstruct(self, y: Tensor) -> Reconstruction:
        raise NotImplementedError


class Ours:
    """Text encoder of depth 0, `vq_transformer`, `caption_image_nll`."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        batch, words, width = SIZES["batch"], SIZES["words"], SIZES["width"]
        ids = torch.randint(4, SIZES["text_vocabulary"], (batch, words + 1))  # the beginning is read and not predicted
        ids[:, 0], ids[:, -1] = BOS, EOS
        self.x = Tokens(ids, torch.ones_like(ids, dtype=torch.bool))
        tokenizer = LetterTokenizer(SIZES["text_vocabulary"], words + 1)
        context = Context(
            width=width,
            latent=width,
            tokenizer=tokenizer,
            vocabularies={"text_encoder": tokenizer.size},
            image_tokens=ImageTokens(vocabulary=SIZES["image_vocabulary"], rows=8, columns=8),
        )
        self.encoder = TransformerTextEncoder(TransformerTextEncoderConfig(depth=0), context)
        options = {"depth": SIZES["depth"], "heads": SIZES["heads"], "ratio": 6.0, "caption": True, "guidance": 3.0, "top_p": 0.9}
        self.decoder = VQTransformer(VQTransformerConfig(**options), context)
        parts = {"text_encoder": self.encoder, "image_decoder": self.decoder}
        parts["image_tokenizer"] = Given(torch.randint(SIZES["image_vocabulary"], (batch, 64)))
        self.model = Model(parts, {"text_encoder": tokenizer}, (3, 64, 64))
        self.loss = CaptionImageNLL(CaptionImageNLLConfig(), context)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=3e-4)
        self.batch = Batch(numbers=np.arange(batch), x=self.x, y=torch.zeros(batch, 3, 64, 64))
        self.steps = 0

    def train(self) -> None:
        self.model.train()
        self.steps += 1
        loss = self.loss(Cycle(self.model, self.batch, key=(0, self.steps)))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def sample(self) -> None:
        rows = slice(SIZES["drawn"])
        with self.model.inference():
            z = self.encoder(Tokens(self.x.ids[rows], self.x.mask[rows]))
            drawn = self.decoder.sample(z, Rng((0,), np.arange(SIZES["drawn"])))
        assert drawn.shape == (SIZES["drawn"], 64)


def test_a_step_and_a_drawing_cost_no_more_than_the_peers(python: Path, record_property: Callable[[str, object], None]) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    ours = Ours()
    with started(python, "peer_dalle.py", SIZES) as peer:
        parameters = sum(parameter.numel() for parameter in ours.model.parameters())
        print(f"parameters: ours {parameters:,}, dalle-pytorch {peer.parameters:,}")
        assert abs(parameters / peer.parameters - 1) <= 0.02
        ratios = {what: paired(what, getattr(ours, what), peer, "dalle-pytorch") for what in ("train", "sample")}
    for what, ratio in ratios.items():
        record_property(what, round(ratio, 3))
    assert ratios["train"] <= 1.0 and ratios["sample"] <= 1.0
