"""A captioner that is told which language a caption is in writes in the one that it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ibllm_cli.main import main
from ibllm_tokenizers.bpe import BPETokenizer
from ibllm_tokenizers.config import BPEConfig, WordConfig
from ibllm_tokenizers.word import WordTokenizer
from PIL import Image

import ibllm
from ibllm.api import Run
from ibllm_core.errors import UserError
from ibllm_core.interfaces.batch import collate, told
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.dataset import Samples
from ibllm_core.interfaces.tokenizer import BOS, EOS, PAD, Tokenizer
from ibllm_core.recipe import load

TINY = Path(__file__).with_name("tiny.toml")
AWAY = (
    "model.text_encoder",
    "model.image_decoder",
    "model.discriminator",
    "losses.image_nll",
    "losses.joint",
    "losses.adversarial",
    "losses.penalty",
)
AWAY += ("losses.cycle", "metrics.scene", "metrics.round_trip", "trackers.tensorboard")
#: The tiny recipe's captioner alone, in two languages.
CAPTIONER = (
    "data.languages=['en','zh']",
    "tokenizers.text.unspaced='characters'",
    "model.text_decoder.languages=['en','zh']",
    *(f"{name}=false" for name in AWAY),
    "stages.text.steps=0",
    "stages.joint.steps=0",
    "stages.image.train=['image_encoder','text_decoder']",
    "stages.image.losses={text_nll=1.0}",
    "stages.image.validate.figure=''",
    "stages.image.validate.every=0",
    "training.ema=0",
    "optimizer.lr=1e-2",
)


def tokenizer(kind: str) -> Tokenizer:
    made = WordTokenizer(WordConfig(size=32), Context()) if kind == "word" else BPETokenizer(BPEConfig(size=300), Context())
    made.train(["a red card", "en la mesa", "en", "zh"])
    return made


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_what_is_told_is_the_code_and_a_second_beginning(kind: str) -> None:
    words = tokenizer(kind)
    tokens = told(words, ["en", "", "zh"])
    rows = [row[kept].tolist() for row, kept in zip(tokens.ids, tokens.mask, strict=True)]
    assert rows == [[BOS, *words.encode_one("en"), BOS, EOS], [BOS, EOS], [BOS, *words.encode_one("zh"), BOS, EOS]]
    assert (tokens.ids[~tokens.mask] == PAD).all()


def test_every_fourth_item_is_not_told_and_other_models_are_told_nothing() -> None:
    words, rows = tokenizer("word"), np.arange(8)
    samples = Samples(rows, captions=["a red card"] * 8, languages=["en"] * 8)
    both = {"text_encoder": words, "text_decoder": words}
    assert collate(samples, both, rows).language is None
    given = collate(samples, {**both, "language": words}, rows).language
    assert given is not None
    assert (given.lengths() > 2).tolist() == [False, True, True, True] * 2
    halves = [Samples(share, captions=["a red card"] * 4, languages=["en"] * 4) for share in (rows[:4], rows[4:])]
    shares = [collate(half, {**both, "language": words}, half.indices).language for half in halves]
    assert torch.equal(torch.cat([share.ids for share in shares if share is not None]), given.ids)


def test_codes_are_different_and_only_decoders_that_take_a_prefix_have_them() -> None:
    with pytest.raises(UserError, match="expected: different codes"):
        load(TINY, ["model.text_decoder.languages=['en','en']"])
    assert load(TINY, CAPTIONER).languages == ("en", "zh") and load(TINY).languages == ()


@pytest.mark.slow
@pytest.mark.usefixtures("unrehearsed_runs")
def test_it_writes_in_the_language_that_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, sets = tmp_path / "run", [*CAPTIONER, "stages.image.steps=50"]
    assert main(["run", str(TINY), "--run-dir", str(run), *(word for one in sets for word in ("--set", one))]) == 0
    capsys.readouterr()
    model, samples = ibllm.open(run), Run(run).dataset.samples("test", np.arange(6))
    assert samples.images is not None
    images = list(samples.images)
    chinese, english = (model.caption(images, language=code) for code in ("zh", "en"))
    assert not any(text.isascii() for text in chinese) and all(text.isascii() for text in english)
    best = model.captions(images[:2], 2, language="en")
    assert all(text.text.isascii() and text.log_p < 0 for texts in best for text in texts)
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    assert main(["caption", str(run), str(tmp_path / "a.png"), "--language", "zh", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["captions"][0]["text"] == chinese[0]
    assert main(["caption", str(run), str(tmp_path / "a.png"), "--language", "de"]) == 2
    assert "there are: en, zh" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("unrehearsed_runs")
def test_a_run_measures_languages_and_translations_and_its_report_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    sets = [
        "data.languages=['en','zh']",
        "model.text_decoder.languages=['en','zh']",
        "evaluation.by_language=true",
        "evaluation.translate=['en,zh']",
        "evaluation.after_stage=0",
        "evaluation.splits=['test']",
        *(f"stages.{stage}.steps={steps}" for stage, steps in (("text", 1), ("image", 1), ("joint", 0))),
        *(f"stages.{stage}.validate.every=0" for stage in ("text", "image")),
    ]
    assert main(["run", str(TINY), "--run-dir", str(run), *(word for one in sets for word in ("--set", one))]) == 0
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert {"test/caption_exact", "test/caption_exact/en", "test/caption_exact/zh", "test/caption_exact/en→zh"} <= results.keys()
    assert "test/script_right/en→zh" in results
    assert "Translation through the picture" in (run / "report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["evaluate", str(run), "--items", "8", "--translate", "zh,en", "--json"]) == 0
    assert "test/caption_object_recall/zh→en" in json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(run), "--translate", "zh,de"]) == 2
