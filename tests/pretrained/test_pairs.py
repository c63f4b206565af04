"""Pairs like CLIP and SigLIP: both encoders in the space that the pair was trained for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ibllm_pretrained.config import PretrainedImageEncoderConfig, PretrainedTextEncoderConfig, PretrainedTokenizerConfig
from ibllm_pretrained.image_encoder import PretrainedImageEncoder
from ibllm_pretrained.text_encoder import PretrainedTextEncoder
from ibllm_pretrained.tokenizer import PretrainedTokenizer

from ibllm_core.interfaces.batch import to_images
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Tokens
from tests.pretrained.models import TOKENS
from tests.pretrained.test_image_encoder import pictures

transformers = pytest.importorskip("transformers")

Folder = Callable[[str], Path]
WIDTHS = {"clip": 12, "siglip": 16}
TEXTS = ["a red circle", "is there a blue square left of the circle"]


def tokenizer(folder: Path) -> PretrainedTokenizer:
    return PretrainedTokenizer(PretrainedTokenizerConfig(model=str(folder), max_length=14), Context())


def read(tokens: PretrainedTokenizer, texts: list[str]) -> Tokens:
    return Tokens(*map(torch.from_numpy, tokens.encode(texts)))


def encoders(folder: Path, width: int) -> tuple[PretrainedTokenizer, Any, Any]:
    tokens = tokenizer(folder)
    text = PretrainedTextEncoder(PretrainedTextEncoderConfig(space="common"), Context(width=width, tokenizer=tokens))
    image = PretrainedImageEncoder(PretrainedImageEncoderConfig(model=str(folder), space="common"), Context(width=width))
    return tokens, text.eval(), image.eval()


def ids_of(kind: str, texts: list[str]) -> torch.Tensor:
    """A pair's own ids of some texts: CLIP's begin and end, SigLIP's are filled up to 16 places."""
    rows = [[TOKENS.index(word) for word in text.split()] for text in texts]
    rows = [[1, *row, 2] for row in rows] if kind == "clip" else [[*row, 2] for row in rows]
    return torch.tensor([[*row, *[2] * (16 - len(row))] for row in rows])


@pytest.mark.parametrize("kind", WIDTHS)
def test_cosines_are_the_pairs_own(model_folder: Folder, kind: str) -> None:
    tokens, text, image = encoders(model_folder(kind), WIDTHS[kind])
    model = transformers.AutoModel.from_pretrained(model_folder(kind), attn_implementation="eager").eval()
    y = to_images(pictures())
    with torch.no_grad():
        x, z = text(read(tokens, TEXTS)), image(y)
        # CLIP's configuration says that the end is id 2, which to the library means the highest id of a text.
        given = ids_of(kind, TEXTS)
        model.text_model.eos_token_id = 0 if kind == "siglip" else 2
        expected = model.get_image_features(image.prepared(y)).pooler_output
        if kind == "clip":
            model.text_model.eos_token_id = -1
            hidden = model.text_model(given).last_hidden_state
            ends = torch.tensor([len(text.split()) + 1 for text in TEXTS])
            wanted = model.text_projection(hidden[torch.arange(2), ends])
        else:
            wanted = model.get_text_features(given).pooler_output
    assert torch.allclose(z.pooled, expected, atol=1e-5)
    assert torch.allclose(x.pooled, wanted, atol=1e-5)
    assert torch.allclose(F.cosine_similarity(x.pooled, z.pooled), F.cosine_similarity(wanted, expected), atol=1e-5)
    assert not list(text.parameters()) and not list(image.parameters())
    assert z.tokens.shape == (2, 16, WIDTHS[kind]) and x.tokens.shape[2] == WIDTHS[kind]


@pytest.mark.parametrize("kind", WIDTHS)
def test_a_text_tower_is_a_text_encoder_as_well(model_folder: Folder, kind: str) -> None:
    """By itself, with a projection of ours; padding changes nothing."""
    tokens = tokenizer(model_folder(kind))
    part = PretrainedTextEncoder(PretrainedTextEncoderConfig(mode="tuned"), Context(width=8, tokenizer=tokens)).eval()
    assert not any("tower" in name for name in part.state_dict())  # the weights are kept once
    both, alone = part(read(tokens, TEXTS)), part(read(tokens, TEXTS[:1]))
    assert torch.allclose(both.pooled[:1], alone.pooled, atol=1e-5)
    part.train()(read(tokens, TEXTS)).pooled.square().sum().backward()
    unreached = {name for name, p in part.named_parameters() if p.grad is None}
    assert not unreached


def test_widths_are_the_spaces(model_folder: Folder) -> None:
    tokens = tokenizer(model_folder("clip"))
    with pytest.raises(ValueError, match="width = 8: expected 12, that of the pair's common space"):
        PretrainedTextEncoder(PretrainedTextEncoderConfig(space="common"), Context(width=8, tokenizer=tokens))
    with pytest.raises(ValueError, match='space = "common": expected one of a pair like CLIP or SigLIP'):
        PretrainedTextEncoder(PretrainedTextEncoderConfig(space="common"), Context(width=8, tokenizer=tokenizer(model_folder("bert"))))
