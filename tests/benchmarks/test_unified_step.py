"""A step of the unified model, both orders of text and image, against forward, backward and fused AdamW of transformers' own Llama of the same shape.

The same work on both sides: width, depth, heads and feed-forward width; as many places of as many rows, none of them padding (which ours would leave out);
a table of words and of image tokens that is also the head; every word and every image token predicted once. Llama reads both orders as rows of ids with a
causal mask and predicts all the next ones; ours embeds patches where it reads, in place of ids.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from ibllm_testing.stand_ins import LetterTokenizer
from ibllm_unified.backbone import UnifiedBackbone
from ibllm_unified.config import (
    BackboneConfig,
    UnifiedConfig,
    UnifiedImageDecoderConfig,
    UnifiedImageEncoderConfig,
    UnifiedTextDecoderConfig,
    UnifiedTextEncoderConfig,
)
from ibllm_unified.image_decoder import unified_image_decoder
from ibllm_unified.image_encoder import UnifiedImageEncoder
from ibllm_unified.loss import Unified
from ibllm_unified.text_decoder import UnifiedTextDecoder
from ibllm_unified.text_encoder import UnifiedTextEncoder
from torch import Tensor, nn

from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.context import Context, ImageTokens
from ibllm_core.interfaces.latent import Tokens
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model

from .rounds import both

SMALL: dict[str, Any] = {"width": 32, "depth": 1, "heads": 2, "batch": 2, "words": 16, "codes": 16, "text": 6, "side": 2, "ratio": 2.0}
#: About what `recipes/llm/unified.toml` has, in a wider model: small ones measure Python.
FULL: dict[str, Any] = {"width": 256, "depth": 6, "heads": 4, "batch": 12, "words": 512, "codes": 512, "text": 23, "side": 8, "ratio": 2.0}
STEPS, ROUNDS = 2, 9
PIXELS = 4
CPU = torch.device("cpu")


class Kept(nn.Module):
    """A codec that has the ids of the batch already: what it costs is no part of the comparison."""

    def __init__(self, ids: Tensor) -> None:
        super().__init__()
        self.ids = ids

    def encode(self, y: Tensor) -> Tensor:
        return self.ids


class Ours:
    """The four parts, the backbone and the loss of both orders."""

    def __init__(self, size: dict[str, Any], words: Tensor, codes: Tensor, device: torch.device = CPU) -> None:
        side, b = size["side"], size["batch"]
        vocabularies = {"text_encoder": size["words"], "text_decoder": size["words"]}
        context = Context(
            width=size["width"],
            latent=size["width"],
            image_shape=(3, side * PIXELS, side * PIXELS),
            tokenizer=LetterTokenizer(size=size["words"], max_length=size["text"]),
            vocabularies=vocabularies,
            image_tokens=ImageTokens(vocabulary=size["codes"], rows=side, columns=side),
        )
        torch.manual_seed(0)
        lm = UnifiedBackbone(BackboneConfig(depth=size["depth"], heads=size["heads"], ratio=size["ratio"]), context)
        context = attrs.evolve(context, shared={"lm": lm})
        parts: dict[str, nn.Module] = {
            "text_encoder": UnifiedTextEncoder(UnifiedTextEncoderConfig(backbone="lm"), context),
            "image_decoder": unified_image_decoder(UnifiedImageDecoderConfig(backbone="lm"), context),
            "image_encoder": UnifiedImageEncoder(UnifiedImageEncoderConfig(backbone="lm", patch=PIXELS), context),
            "text_decoder": UnifiedTextDecoder(UnifiedTextDecoderConfig(backbone="lm"), context),
            "image_tokenizer": Kept(codes),
            "lm": lm,
        }
        self.model, self.loss = Model(parts, {}, context.image_shape).to(device).train(), Unified(UnifiedConfig(), context)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        x = Tokens(words, torch.ones_like(words, dtype=torch.bool))
        self.batch = Batch(numbers=np.arange(b), x=x, x_out=x, y=torch.rand(b, *context.image_shape, device=device) * 2 - 1)

    def step(self) -> None:
        self.loss(Cycle(self.model, self.batch)).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()


class Llama:
    """The same of transformers' own, on ids alone."""

    def __init__(self, size: dict[str, Any], words: Tensor, codes: Tensor, device: torch.device = CPU) -> None:
        transformers = pytest.importorskip("transformers")
        width, heads = size["width"], size["heads"]
        config = transformers.LlamaConfig(
            vocab_size=size["words"] + size["codes"],
            hidden_size=width,
            intermediate_size=int(size["ratio"] * width),
            num_hidden_layers=size["depth"],
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            use_cache=False,
            attn_implementation="sdpa",
        )
        torch.manual_seed(0)
        self.model = transformers.LlamaForCausalLM(config).to(device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        images = codes + size["words"]
        # A place for the task each, which a word of the text stands for.
        task = words[:, :1]
        self.ids = torch.cat([torch.cat([words, images], 1), torch.cat([images, task, words[:, :-1]], 1)])

    def step(self) -> None:
        self.model(input_ids=self.ids, labels=self.ids).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def places(ours: Ours) -> int:
    """Places that go through the layers in a step."""
    seen: list[int] = []
    hook = ours.model.parts["lm"].layers[0].register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))  # type: ignore[union-attr,index]
    ours.step()
    hook.remove()
    return sum(seen)


@both
def test_a_step_costs_no_more_than_llamas(measured: bool) -> None:
    size = FULL if measured else SMALL
    draws = torch.Generator().manual_seed(0)
    words = torch.randint(4, size["words"], (size["batch"], size["text"]), generator=draws)
    codes = torch.randint(size["codes"], (size["batch"], size["side"] ** 2), generator=draws)
    ours, llama = Ours(size, words, codes), Llama(size, words, codes)
    assert places(ours) == llama.ids.numel()
    sides: dict[str, Callable[[], None]] = {"ours": ours.step, "llama": llama.step}
    spent: dict[str, list[float]] = {side: [] for side in sides}
    for round_ in range(ROUNDS if measured else 1):
        for side in sides if round_ % 2 else reversed(sides):
            sides[side]()  # what is left of the other side's turn in caches is no cost of this one's
            started = time.process_time()
            for _ in range(STEPS if measured else 1):
                sides[side]()
            spent[side].append((time.process_time() - started) / STEPS)
    ratios = [a / b for a, b in zip(spent["ours"], spent["llama"], strict=True)]
    sizes = {side: sum(p.numel() for p in model.parameters()) for side, model in (("ours", ours.model), ("llama", llama.model))}
    print(
        f"parameters {sizes}; CPU seconds a step: " + ", ".join(f"{side} {statistics.median(found):.3f}" for side, found in spent.items())
    )
    print(f"ours / llama: median {statistics.median(ratios):.3f} of {sorted(round(ratio, 3) for ratio in ratios)}")
    assert statistics.median(ratios) <= 1.0 or not measured
