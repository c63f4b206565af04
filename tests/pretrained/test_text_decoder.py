"""Pretrained text decoders: the library's own loss and its own generation, with the image in front."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ibllm_pretrained.config import PretrainedTextDecoderConfig, PretrainedTokenizerConfig
from ibllm_pretrained.text_decoder import text_decoder
from ibllm_pretrained.tokenizer import PretrainedTokenizer
from torch import Tensor

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Latent, Tokens
from ibllm_core.interfaces.text import asking
from ibllm_core.interfaces.tokenizer import BOS, EOS
from tests.pretrained.models import TOKENS, write_tokenizer

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

Folder = Callable[[str], Path]
CAUSAL = ("llama", "qwen2", "qwen3", "gpt2")
TEXTS = ["a red circle", "a", "left of the blue square is a circle"]
QUESTIONS = ["what colour is the circle ?", "what is there ?", "a"]


def tokenizer(folder: Path) -> PretrainedTokenizer:
    return PretrainedTokenizer(PretrainedTokenizerConfig(model=str(folder), max_length=14), Context())


def decoder(tokens: Any, **options: Any) -> Any:
    torch.manual_seed(1)
    return text_decoder(PretrainedTextDecoderConfig(**options), Context(width=8, latent=6, tokenizer=tokens)).eval()


def read(tokens: PretrainedTokenizer, texts: list[str]) -> Tokens:
    return Tokens(*map(torch.from_numpy, tokens.encode(texts)))


def latent(items: int = 3) -> Latent:
    """The second item has places that are empty."""
    random = torch.Generator().manual_seed(2)
    mask = torch.ones(items, 4, dtype=torch.bool)
    mask[1:2, 2:] = False
    return Latent(torch.randn(items, 4, 6, generator=random), mask, torch.randn(items, 6, generator=random))


def alone(given: Tensor, there: Tensor, row: int) -> Tensor:
    """What stands before a row's text, without its empty places (1 p e)."""
    return given[row : row + 1, there[row]]


@pytest.mark.parametrize("asked", [False, True], ids=["caption", "answer"])
@pytest.mark.parametrize("kind", CAUSAL)
def test_the_likelihood_is_the_librarys_loss(model_folder: Folder, kind: str, asked: bool) -> None:
    tokens = tokenizer(model_folder(kind))
    part, x, z = decoder(tokens), read(tokens, TEXTS), latent()
    prefix = read(tokens, QUESTIONS) if asked else None
    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder(kind), attn_implementation="eager").eval()
    with torch.no_grad():
        given, there = part.condition(z, prefix)
        found = part.nll(x, z, prefix)
        for row in range(3):
            ids = part.model_ids[x.ids[row, 1:][x.mask[row, 1:]]]
            before = alone(given, there, row)
            embedded = torch.cat([before, model.get_input_embeddings()(ids)[None]], 1)
            labels = torch.cat([torch.full((before.shape[1],), -100), ids])[None]
            expected = model(inputs_embeds=embedded, labels=labels).loss * len(ids)
            assert float(found[row]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("asked", [False, True], ids=["caption", "answer"])
@pytest.mark.parametrize("kind", CAUSAL)
def test_it_writes_what_the_library_generates(model_folder: Folder, kind: str, asked: bool) -> None:
    tokens = tokenizer(model_folder(kind))
    part, z = decoder(tokens), latent()
    prefix = read(tokens, QUESTIONS) if asked else None
    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder(kind), attn_implementation="eager").eval()
    written = part.sample(z, prefix=prefix)
    with torch.no_grad():
        given, there = part.condition(z, prefix)
        for row in range(3):
            found = part.model_ids[written.ids[row, 1:][written.mask[row, 1:]]].tolist()
            # Padding and beginning are no words: ours never writes them. The last place is the end's.
            expected = model.generate(
                inputs_embeds=alone(given, there, row), max_new_tokens=part.max_length - 2, do_sample=False, suppress_tokens=[0, 1]
            )[0].tolist()
            assert found == (expected if expected[-1] == 2 else [*expected, 2])


@pytest.mark.parametrize("asked", [False, True], ids=["caption", "answer"])
def test_an_encoder_and_a_decoder_are_the_librarys(model_folder: Folder, asked: bool) -> None:
    """T5: loss and generation, the encoder reading the image and what is asked."""
    tokens = tokenizer(model_folder("t5"))
    part, x, z = decoder(tokens), read(tokens, TEXTS), latent()
    prefix = read(tokens, QUESTIONS) if asked else None
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(model_folder("t5"), attn_implementation="eager").eval()
    written = part.sample(z, prefix=prefix)
    with torch.no_grad():
        given, there = part.condition(z, prefix)
        nll = part.nll(x, z, prefix)
        for row in range(3):
            ids = part.model_ids[x.ids[row, 1:][x.mask[row, 1:]]]
            before = alone(given, there, row)
            assert float(nll[row]) == pytest.approx(float(model(inputs_embeds=before, labels=ids[None]).loss * len(ids)), rel=1e-5)
            found = part.model_ids[written.ids[row, 1:][written.mask[row, 1:]]].tolist()
            expected = model.generate(inputs_embeds=before, max_new_tokens=part.max_length - 2, do_sample=False, suppress_tokens=[0, 1])[
                0, 1:
            ].tolist()
            assert found == (expected if expected[-1] == 2 else [*expected, 2])
        logits, state, steps = part.logits(x.ids, x.mask, z), part.begin(z), []
        for place in range(x.ids.shape[1]):
            now, state = part.step(x.ids[:, place], state)
            steps.append(now)
    assert float(((torch.stack(steps, 1) - logits) * x.mask.unsqueeze(-1)).abs().max()) < 1e-4


def test_rows_may_be_at_different_places(model_folder: Folder) -> None:
    """A row that waits while others go on gives what it gives alone."""
    tokens = tokenizer(model_folder("llama"))
    part, x, z = decoder(tokens), read(tokens, TEXTS), latent()
    with torch.no_grad():
        wanted = part.logits(x.ids, x.mask, z)
        state = part.begin(z)
        ahead = part.step(x.ids[:, 0], state)[1]
        # Rows 0 and 2 go on, row 1 begins: a state is a tree of rows, which can be picked apart and put together.
        fresh = part.begin(z)
        mixed = torch.utils._pytree.tree_map(lambda one, other: torch.stack([one[0], other[1], one[2]]), ahead, fresh)
        found, _ = part.step(torch.stack([x.ids[0, 1], x.ids[1, 0], x.ids[2, 1]]), mixed)
    assert torch.allclose(found, torch.stack([wanted[0, 1], wanted[1, 0], wanted[2, 1]]), atol=1e-5)


@pytest.mark.parametrize("projector", ["linear", "mlp", "perceiver"])
def test_projectors_hand_the_gradient_on_and_ignore_empty_places(model_folder: Folder, projector: str) -> None:
    tokens = tokenizer(model_folder("llama"))
    part, x, z = decoder(tokens, projector=projector, queries=3, heads=4), read(tokens, TEXTS), latent()
    other = Latent(torch.where(z.mask.unsqueeze(-1), z.tokens, 30.0), z.mask, z.pooled)
    assert torch.allclose(part(x, z), part(x, other), atol=1e-5)
    z.tokens.requires_grad_()
    part(x, z).sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in part.parameters())
    assert z.tokens.grad is not None
    assert bool(z.tokens.grad[z.mask].any(-1).all()) and not bool(z.tokens.grad[~z.mask].any())


def test_a_question_is_a_turn_of_the_chat_template(model_folder: Folder) -> None:
    """Without an image the ids would be the library's own."""
    tokens = tokenizer(model_folder("llama"))
    prompt = decoder(tokens).prompts.question
    own = transformers.AutoTokenizer.from_pretrained(model_folder("llama"))
    said = own.apply_chat_template([{"role": "user", "content": QUESTIONS[0]}], add_generation_prompt=True, return_dict=False)
    asked = [TOKENS.index(word) for word in QUESTIONS[0].split()]
    assert [*prompt.before, *asked, *prompt.after] == said
    assert [TOKENS[i] for i in prompt.after] == ["</s>", "<|bot|>"]


def test_a_question_is_asked_for_by_words_too(model_folder: Folder) -> None:
    """`asking`, which has no words, becomes the prompt for a question; among questions a row keeps its own."""
    tokens = tokenizer(model_folder("llama"))
    part, z = decoder(tokens), latent(2)
    question = read(tokens, ["Ask a question about the image ."])
    alike = Tokens(question.ids.repeat(2, 1), question.mask.repeat(2, 1))
    asks = asking(2, torch.device("cpu"))
    x = read(tokens, TEXTS[:2])
    assert torch.allclose(part(x, z, asks), part(x, z, alike), atol=1e-5)
    short = read(tokens, ["circle", "circle"])
    mixed = Tokens(torch.stack([asks.ids[0], short.ids[1]]), torch.ones(2, 3, dtype=torch.bool))
    assert torch.allclose(part(x, z, mixed), torch.stack([part(x, z, asks)[0], part(x, z, short)[1]]), atol=1e-5)


def test_a_caption_may_be_asked_for(model_folder: Folder) -> None:
    tokens = tokenizer(model_folder("llama"))
    x, z, words = read(tokens, TEXTS), latent(), "Describe the image ."
    asked = decoder(tokens, caption_prompt=words)
    question = read(tokens, [words] * 3)
    assert torch.allclose(asked(x, z), decoder(tokens)(x, z, question), atol=1e-5)
    assert not torch.allclose(asked(x, z), decoder(tokens)(x, z), atol=1e-2)


def test_ids_that_are_one_are_counted_once(model_folder: Folder, tmp_path: Path) -> None:
    """Of GPT-2, whose only special token stands for everything, the probabilities of all next ids sum to 1."""
    folder = Path(shutil.copytree(model_folder("gpt2"), tmp_path / "gpt2"))
    for file in folder.glob("*token*"):
        file.unlink()
    write_tokenizer(folder, {"bos_token": "</s>", "eos_token": "</s>"}, "")
    tokens = tokenizer(folder)
    part, z = decoder(tokens, prompts="plain"), latent()
    with torch.no_grad():
        logits, _ = part.step(torch.full((3,), BOS), part.begin(z))
    p = logits.softmax(-1)
    assert part.vocabulary == len(TOKENS) + 3 + 3
    assert torch.allclose(p.sum(1), torch.ones(3)) and not bool(p[:, [0, 1, 3]].any()) and bool((p[:, EOS] > 0).all())


@pytest.mark.parametrize("mode", ["frozen", "lora", "tuned"])
@pytest.mark.parametrize("kind", ["qwen2", "gpt2"])
def test_only_what_should_be_is_trained(model_folder: Folder, kind: str, mode: str) -> None:
    tokens = tokenizer(model_folder(kind))
    part, x, z = decoder(tokens, mode=mode).train(), read(tokens, TEXTS), latent()
    before = {name: tensor.clone() for name, tensor in part.state_dict().items()}
    optimizer = torch.optim.Adam(part.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        part(x, z).sum().backward()
        optimizer.step()
    changed = {name for name, tensor in part.state_dict().items() if not torch.equal(tensor, before[name])}
    own = {name for name in before if name.startswith("projector.")}
    adapters = {name for name in before if "lora_" in name}
    assert own <= changed
    assert changed - own == {"frozen": set(), "lora": adapters, "tuned": set(before) - own}[mode]
    assert {name for name, _ in part.named_parameters()} == changed
    # A head that is the embedding is kept once.
    assert not any(name.endswith("lm_head.weight") for name in before)


def test_weights_in_bfloat16_compute_in_it_and_adapters_do_not(model_folder: Folder) -> None:
    tokens = tokenizer(model_folder("llama"))
    part, x, z = decoder(tokens, mode="lora", dtype="bfloat16"), read(tokens, TEXTS), latent()
    kinds = {name: tensor.dtype for name, tensor in part.state_dict().items()}
    assert all(
        kind == (torch.bfloat16 if name.startswith("model.") and "lora_" not in name else torch.float32) for name, kind in kinds.items()
    )
    plain = decoder(tokens, mode="lora")(x, z)
    assert part(x, z).dtype == torch.float32
    assert torch.allclose(part(x, z), plain, rtol=0.05)
    with pytest.raises(ValueError, match="dtype = 'bfloat16': expected float32 where mode = \"tuned\""):
        PretrainedTextDecoderConfig(mode="tuned", dtype="bfloat16")


def test_a_saved_part_needs_its_folder_no_more(model_folder: Folder, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder("qwen2"), tmp_path / "qwen2"))
    tokens = tokenizer(folder)
    part, x, z = decoder(tokens, caption_prompt="Describe the image ."), read(tokens, TEXTS), latent()
    kept, weights, wanted = tokens.state(), part.state_dict(), part(x, z)
    shutil.rmtree(folder)
    again = tokenizer(folder)
    again.restore(kept)
    other = decoder(again, caption_prompt="Describe the image .")
    other.load_state_dict(weights)
    assert torch.equal(other(x, z), wanted)


# What the user may get wrong.


def test_questions_need_a_chat_template(model_folder: Folder, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder("llama"), tmp_path / "llama"))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokens = tokenizer(folder)
    x, z, asked = read(tokens, TEXTS), latent(), read(tokens, QUESTIONS)
    part = decoder(tokens)
    assert torch.isfinite(part(x, z)).all()
    with pytest.raises(ValueError, match=r'prompts = "chat": expected a tokenizer with a chat template .*prompts = "plain" does without'):
        part(x, z, asked)
    with pytest.raises(ValueError, match="caption_prompt = 'a': expected a tokenizer with a chat template"):
        decoder(tokens, caption_prompt="a")
    assert torch.isfinite(decoder(tokens, prompts="plain")(x, z, asked)).all()
    for template, problem in (("{{ raise_exception('no') }}", "cannot be used: no"), ("nothing", "writes what the user says, once")):
        (folder / "chat_template.jinja").write_text(template)
        with pytest.raises(ValueError, match=problem):
            decoder(tokenizer(folder))


def test_models_that_cannot_write_are_refused(model_folder: Folder, said: Any) -> None:
    with pytest.raises(
        ValueError, match="model_type = 'bert': expected a decoder, whose places see none that come later; it is an encoder"
    ):
        decoder(tokenizer(model_folder("bert")))
    with pytest.raises(ValueError, match="model_type = 'vit': expected a causal language model"):
        decoder(tokenizer(said(model_folder("llama"), {"model_type": "vit"})))
    with pytest.raises(ValueError, match='expected a tokenizer with use = "pretrained"'):
        decoder(None)


def test_more_than_the_models_context_is_refused(model_folder: Folder, said: Any) -> None:
    tokens = tokenizer(said(model_folder("llama"), {"max_position_embeddings": 18}))
    part, z = decoder(tokens), latent()
    with pytest.raises(
        ValueError, match=r"5 places of image and prompt, and texts of max_length = 14 \(.*\): expected at most the model's 18"
    ):
        part(read(tokens, TEXTS), z)


def test_a_perceivers_heads_share_the_models_width(model_folder: Folder) -> None:
    with pytest.raises(ValueError, match="heads = 5: expected a divisor of width = 16"):
        decoder(tokenizer(model_folder("llama")), projector="perceiver", heads=5)


def test_weights_that_nobody_uses_are_told(model_folder: Folder, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(model_folder("llama"), tmp_path / "llama"))
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "vision.weight": torch.ones(2)}, folder / "model.safetensors", {"format": "pt"})
    assert decoder(tokenizer(folder)).notes() == (f"{folder}: vision.weight is not used by a LlamaForCausalLM",)
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"expected all weights of a LlamaForCausalLM; model\.norm\.weight is missing"):
        decoder(tokenizer(folder))


def test_special_ids(model_folder: Folder) -> None:
    tokens = tokenizer(model_folder("llama"))
    assert tokens.vocabulary.special == (0, 1, 2, 3)
    assert tokens.vocabulary.repeated == ()
    assert [*tokens.vocabulary.model_ids] == list(range(len(TOKENS) + 3))
