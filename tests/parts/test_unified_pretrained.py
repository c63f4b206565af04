"""A pretrained language model as the backbone of both directions: what `transformers` itself computes, with images in the sequence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import tokenizers
import torch
import torch.nn.functional as F
from ibllm_cli.main import main
from ibllm_pretrained.config import PretrainedTokenizerConfig
from ibllm_pretrained.tokenizer import PretrainedTokenizer
from ibllm_unified.autoregressive import AutoregressiveWriter
from ibllm_unified.config import PretrainedBackboneConfig, UnifiedImageDecoderConfig, UnifiedTextDecoderConfig
from ibllm_unified.metric import nll
from ibllm_unified.pretrained import PretrainedBackbone
from ibllm_unified.text_decoder import UnifiedTextDecoder

from ibllm_core.errors import Notice
from ibllm_core.interfaces.context import Context, ImageTokens
from ibllm_core.interfaces.latent import Latent, Tokens
from ibllm_core.interfaces.noise import Rng

transformers = pytest.importorskip("transformers")

WORDS = [
    "<unk>",
    "<pad>",
    "</s>",
    "<s>",
    "a",
    "red",
    "blue",
    "circle",
    "square",
    "at",
    "the",
    "top",
    "left",
    "right",
    "bottom",
    "large",
    "small",
    "and",
]
NAMES = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
WIDTH = 16
SMALL = {
    "vocab_size": len(WORDS),
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 3,
    "eos_token_id": 2,
}
GROUPED = {**SMALL, "intermediate_size": 32, "num_key_value_heads": 2, "max_position_embeddings": 64}
ARCHITECTURES: dict[str, Any] = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**GROUPED)),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**GROUPED, tie_word_embeddings=True)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**SMALL, n_positions=64)),
}


def save(folder: Path, kind: str) -> Path:
    torch.manual_seed(0)
    model = ARCHITECTURES[kind]()
    for parameter in model.parameters():
        parameter.data *= 3  # what is drawn for training says next to the same of every word
    model.save_pretrained(folder)
    coder = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: place for place, word in enumerate(WORDS)}, "<unk>"))
    coder.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    coder.save(str(folder / "tokenizer.json"))
    (folder / "special_tokens_map.json").write_text(json.dumps(NAMES), encoding="utf-8")
    return folder


@pytest.fixture(params=ARCHITECTURES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return save(tmp_path / "model", request.param)


def context(folder: Path, width: int = WIDTH) -> Context:
    tokens = PretrainedTokenizer(PretrainedTokenizerConfig(model=str(folder), max_length=12), Context())
    sizes = {"text_encoder": tokens.size, "text_decoder": tokens.size}
    image = ImageTokens(vocabulary=5, rows=2, columns=2)
    return Context(width=width, latent=width, tokenizer=tokens, vocabularies=sizes, image_tokens=image)


def backbone(folder: Path, **options: Any) -> tuple[PretrainedBackbone, Context]:
    where = context(folder)
    torch.manual_seed(1)
    made = PretrainedBackbone(PretrainedBackboneConfig(**options), where).eval()
    return made, attrs.evolve(where, shared={"lm": made})


def texts(where: Context) -> Tokens:
    assert where.tokenizer is not None
    ids, mask = where.tokenizer.encode(["a red circle at the top left", "blue square", "the"])
    return Tokens(torch.from_numpy(ids), torch.from_numpy(mask))


def pictures(b: int = 3) -> Latent:
    tokens = torch.randn(b, 4, WIDTH, generator=torch.Generator().manual_seed(2))
    return Latent(tokens, torch.ones(b, 4, dtype=torch.bool), tokens.mean(1))


@torch.no_grad()
def test_texts_alone_are_what_the_library_says(folder: Path) -> None:
    lm, where = backbone(folder)
    x = texts(where)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    wanted = []
    for ids, mask in zip(lm.model_ids[x.ids], x.mask, strict=True):
        one = ids[mask][None]
        wanted.append(float(theirs(input_ids=one, labels=one).loss) * (one.shape[1] - 1))
    torch.testing.assert_close(nll(lm, x), torch.tensor(wanted), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(lm.before(x), torch.tensor(wanted), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_text_after_an_image_is_what_the_library_says_of_the_sequence(folder: Path) -> None:
    """Each sequence alone, without padding; image places see each other."""
    lm, where = backbone(folder)
    part, x, z = UnifiedTextDecoder(UnifiedTextDecoderConfig(backbone="lm"), where).eval(), texts(where), pictures()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    wanted = []
    for b in range(3):
        ids = lm.model_ids[x.ids[b, x.mask[b]]]
        given = torch.cat([z.tokens[b], lm.read[None], theirs.get_input_embeddings()(ids[:-1])])[None]
        t = given.shape[1]
        sees = torch.ones(t, t, dtype=torch.bool).tril()
        sees[:4, :4] = True
        bias = torch.where(sees, 0.0, torch.finfo(torch.float32).min)[None, None]
        logits = theirs(inputs_embeds=given, attention_mask=bias, position_ids=torch.arange(t)[None], use_cache=False).logits[0, 5:]
        wanted.append(float(F.cross_entropy(logits, ids[1:], reduction="sum")))
    torch.testing.assert_close(part.nll(x, z), torch.tensor(wanted), atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_the_cache_changes_nothing(folder: Path) -> None:
    _, where = backbone(folder)
    part, x, z = UnifiedTextDecoder(UnifiedTextDecoderConfig(backbone="lm"), where).eval(), texts(where), pictures()
    whole, state = part.logits(x.ids, x.mask, z), part.begin(z)
    for place in range(x.ids.shape[1]):
        logits, state = part.step(x.ids[:, place], state)
        torch.testing.assert_close(logits[x.mask[:, place]], whole[x.mask[:, place], place], atol=1e-4, rtol=1e-4)
    draws = AutoregressiveWriter(UnifiedImageDecoderConfig(backbone="lm", temperature=0.0), where).eval()
    z = Latent(pictures().tokens, torch.arange(4) < torch.tensor([4, 2, 1])[:, None], pictures().pooled)
    drawn = draws.sample(z, Rng((0,), np.arange(3)))
    assert torch.equal(draws.logits(drawn, z)[0].argmax(-1), drawn)


@pytest.mark.parametrize("mode", ["frozen", "tuned", "lora"])
def test_only_what_should_be_is_trained(mode: str, tmp_path: Path) -> None:
    """Task tokens always are; and what the text alone is worth moves only with the layers."""
    if mode == "lora":
        pytest.importorskip("peft")
    lm, where = backbone(save(tmp_path / "model", "llama"), mode=mode)
    part, x, z = UnifiedTextDecoder(UnifiedTextDecoderConfig(backbone="lm"), where), texts(where), pictures()
    before = nll(lm, x).detach()
    torch.testing.assert_close(before, lm.before(x), atol=1e-5, rtol=1e-5)
    parameters = dict(lm.named_parameters())
    assert {"draw", "read"} <= parameters.keys() and (len(parameters) == 2) == (mode == "frozen")
    optimizer = torch.optim.SGD(parameters.values(), lr=0.1)
    for _ in range(2):  # the one half of an adapter is zero at first
        optimizer.zero_grad()
        part.train().nll(x, z).mean().backward()
        optimizer.step()
    assert parameters["read"].grad is not None and bool(parameters["read"].grad.any())
    assert torch.allclose(nll(lm.eval(), x), before, atol=1e-6) == (mode == "frozen")


def test_it_trains_and_tells_what_it_knew_before(tmp_path: Path, plain_runs: None) -> None:
    """A recipe: the layers are tuned, text and image in one pass, and its text ability is measured before and after on given texts."""
    folder = save(tmp_path / "model", "llama")
    (tmp_path / "texts.txt").write_text("a red circle\n\nthe top left\n" + 20 * "red " + "\n", encoding="utf-8")
    (tmp_path / "mine.toml").write_text(
        RECIPE.format(recipes=Path(__file__).parents[2] / "recipes", folder=folder, width=WIDTH), encoding="utf-8"
    )
    with pytest.warns(Notice, match="1 of 3 texts are longer than max_length = 16 tokens"):
        assert main(["run", str(tmp_path / "mine.toml"), "--run-dir", str(tmp_path / "run")]) == 0
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    now, before = found["test/text_perplexity"], found["test/text_perplexity_before"]
    assert now != before and all(math.isfinite(one) and one > 1 for one in (now, before))


RECIPE = """
format = 1
name = "mine"
extends = "{recipes}/llm/transfusion.toml"
[tokenizers]
text = {{ use = "pretrained", model = "{folder}", max_length = 16 }}
[model]
width = {width}
[model.shared]
lm = {{ use = "unified_pretrained", mode = "tuned" }}
[model.image_encoder]
patch = 8
[model.image_decoder]
patch = 8
steps = 2
[metrics]
text_perplexity = {{ use = "text_perplexity", backbone = "lm", texts = "texts.txt", before = true }}
[optimizer]
use = "adamw"
lr = 1e-2
[stages.joint]
steps = 4
batch = 4
validate = {{ every = 0 }}
[evaluation]
splits = ["test"]
items = 4
samples = 2
"""


def test_mistakes_are_named(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "gpt2")
    with pytest.raises(ValueError, match=r"model\.width = 8: expected 16"):
        PretrainedBackbone(PretrainedBackboneConfig(), context(folder, 8))
    with pytest.raises(ValueError, match=r"expected a .* table of use pretrained"):
        PretrainedBackbone(PretrainedBackboneConfig(), Context(width=WIDTH))
    _, where = backbone(folder)
    z = Latent(torch.zeros(1, 64, WIDTH), torch.ones(1, 64, dtype=torch.bool), torch.zeros(1, WIDTH))
    part = UnifiedTextDecoder(UnifiedTextDecoderConfig(backbone="lm"), where)
    with pytest.raises(ValueError, match="expected at most 64"):
        part.nll(Tokens(texts(where).ids[:1], texts(where).mask[:1]), z)
