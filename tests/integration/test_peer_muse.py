"""A step of masked image tokens against muse-maskgit-pytorch 0.3.5, in CPU time, paired in one run.

Matched work: 64 × 64 pixels as 8 × 8 tokens of 512, 32 words of 1000, width 256, depth 6, 4 heads of 64, batch 16, the text left out for one of ten, Adam; one
thread each; parameters within 2 %. Both are handed token ids and embed the words. `maskgit` has the peer's layers: self-attention, attention to the text,
feed-forward; the peer's feed-forward part is gated (two matrices in, one out, each 8/3 times the width), ours is not (one in, one out, 4 times the width): the
same multiplications and parameters. `unified` has one attention over text and image in the place of two, and sends the words through all of its layers; its
parameters are the peer's as well, so it has about half as many multiplications more.

The peer runs in an environment of its own, made for the run with pip; IBLLM_MUSE_ENV names a folder to make it in and to find it again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from ibllm_objectives.config import ImageNLLConfig
from ibllm_objectives.likelihood import ImageNLL
from ibllm_testing.stand_ins import LetterTokenizer
from ibllm_transformer.config import MaskGITConfig, TransformerTextEncoderConfig
from ibllm_transformer.maskgit import MaskGIT
from ibllm_transformer.text_encoder import TransformerTextEncoder
from ibllm_unified.backbone import UnifiedBackbone
from ibllm_unified.config import BackboneConfig, UnifiedImageDecoderConfig, UnifiedTextEncoderConfig
from ibllm_unified.image_decoder import unified_image_decoder
from ibllm_unified.text_encoder import UnifiedTextEncoder

from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.context import Context, ImageTokens
from ibllm_core.interfaces.latent import Tokens
from ibllm_core.interfaces.tokenizer import BOS, EOS
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model

from .peers import environment, paired, started
from .test_peer_dalle import Given

SIZES = {"image_vocabulary": 512, "text_vocabulary": 1000, "words": 32, "width": 256, "depth": 6, "heads": 4, "batch": 16}
PEER = ("muse-maskgit-pytorch==0.3.5", "memory-efficient-attention-pytorch==0.1.6")
PEER_NEEDS = ("numpy", "einops", "beartype", "tqdm", "packaging")
#: The parts that write masked tokens, and what each may cost at most, in peers; `unified` is told and has no bar. Four fifths of a step are matrix products
#: that both sides have to make, so there is not much below this.
BARS = {"maskgit": 0.9, "unified": None}
NULL = 0.1


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of the peer's environment, which has the same torch as ours."""
    folder = Path(os.environ.get("IBLLM_MUSE_ENV") or tmp_path_factory.mktemp("peer"))
    return environment(folder, "muse-maskgit-pytorch", PEER_NEEDS, PEER)


def parts_of(kind: str, context: Context) -> dict[str, Any]:
    """E_x and D_y: `maskgit` after embedded words, or both of `unified` with its backbone."""
    shape = {"depth": SIZES["depth"], "heads": SIZES["heads"]}
    if kind == "maskgit":
        encoder = TransformerTextEncoder(TransformerTextEncoderConfig(depth=0), context)
        return {"text_encoder": encoder, "image_decoder": MaskGIT(MaskGITConfig(**shape, ratio=4.0, null=NULL), context)}
    lm = UnifiedBackbone(BackboneConfig(**shape, ratio=4.0), context)
    context = attrs.evolve(context, shared={"lm": lm})
    decoder = unified_image_decoder(UnifiedImageDecoderConfig(backbone="lm", writes="masked", null=NULL), context)
    return {"text_encoder": UnifiedTextEncoder(UnifiedTextEncoderConfig(backbone="lm"), context), "image_decoder": decoder, "lm": lm}


class Ours:
    """A text encoder without layers of its own, a decoder of masked tokens, `image_nll`."""

    def __init__(self, kind: str) -> None:
        torch.manual_seed(0)
        batch, words, width = SIZES["batch"], SIZES["words"], SIZES["width"]
        ids = torch.randint(4, SIZES["text_vocabulary"], (batch, words))
        ids[:, 0], ids[:, -1] = BOS, EOS
        tokenizer = LetterTokenizer(SIZES["text_vocabulary"], words)
        context = Context(
            width=width,
            latent=width,
            tokenizer=tokenizer,
            vocabularies={"text_encoder": tokenizer.size, "text_decoder": tokenizer.size},
            image_shape=(3, 64, 64),
            image_tokens=ImageTokens(vocabulary=SIZES["image_vocabulary"], rows=8, columns=8),
        )
        parts = parts_of(kind, context)
        parts["image_tokenizer"] = Given(torch.randint(SIZES["image_vocabulary"], (batch, 64)))
        self.model = Model(parts, {"text_encoder": tokenizer}, (3, 64, 64))
        self.loss = ImageNLL(ImageNLLConfig(), context)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=3e-4)
        self.batch = Batch(numbers=np.arange(batch), x=Tokens(ids, torch.ones_like(ids, dtype=torch.bool)), y=torch.zeros(batch, 3, 64, 64))
        self.steps = 0

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    def train(self) -> None:
        self.model.train()
        self.steps += 1
        loss = self.loss(Cycle(self.model, self.batch, key=(0, self.steps)))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


@pytest.mark.parametrize("kind", BARS)
def test_a_masked_step_costs_less_than_the_peers(kind: str, python: Path, record_property: Callable[[str, object], None]) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    ours = Ours(kind)
    with started(python, "peer_muse.py", SIZES) as peer:
        print(f"{kind}: parameters {ours.parameters:,}, muse-maskgit-pytorch {peer.parameters:,}", file=sys.stderr)
        assert abs(ours.parameters / peer.parameters - 1) <= 0.02
        ratio = paired("train", ours.train, peer, "muse-maskgit-pytorch")
    record_property("ratio", round(ratio, 3))
    bar = BARS[kind]
    assert bar is None or ratio <= bar
