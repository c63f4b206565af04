"""The stand-alone program: what it says of what it is given. Its graphs are stand-ins; `tests/integration/` runs real ones."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ibllm_export import run_onnx
from ibllm_export.run_onnx import Words
from ibllm_export.tokenizer_files import plain
from ibllm_tokenizers.config import WordConfig
from ibllm_tokenizers.word import WordTokenizer
from PIL import Image

from ibllm.plugin import Context

from .test_tokenizer_files import Held

CONFIG = WordConfig(size=32, max_length=8)


class Session:
    """Draws what it reads as a tone; writes ``a`` without end."""

    def __init__(self, path: str, *_: Any, **__: Any) -> None:
        self.name = Path(path).stem

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name=name) for name in {"draw": ["ids", "mask"], "read": ["image"], "step": ["token", "z"]}[self.name]]

    def run(self, _: None, feed: dict[str, Any]) -> list[Any]:
        if self.name == "draw":
            tones = feed["ids"].sum(1) / 100 - 1
            return [np.broadcast_to(tones[:, None, None, None], (len(tones), 3, 8, 8)).astype(np.float32)]
        if self.name == "read":
            return [feed["image"]]
        logits = np.zeros((len(feed["token"]), 32), np.float32)
        logits[:, 4] = 1
        return [logits, feed["z"]]


def tokenizer(*texts: str) -> Any:
    made = WordTokenizer(CONFIG, Context(seed=0))
    made.train(texts)
    return made


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs it in an empty folder, beside an export of a model of pictures that are 8 pixels square: exit code, output, errors."""
    folder = tmp_path / "onnx"
    folder.mkdir()
    shutil.copyfile(run_onnx.__file__, folder / "run_onnx.py")
    words = plain(Held("word", CONFIG), tokenizer("a small red ring"))  # type: ignore[arg-type]
    (folder / "words.json").write_text(json.dumps(words))
    about = {
        "image_shape": [3, 8, 8],
        "fit": {"how": "crop", "background": [255, 255, 255]},
        "draw": {"graph": "draw.onnx", "noise": [], "tokenizer": "words.json"},
        "write": {"read": "read.onnx", "step": "step.onnx", "state": ["z"], "changed": ["z"], "max_length": 4, "tokenizer": "words.json"},
    }
    (folder / "export.json").write_text(json.dumps(about))
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session, SessionOptions=SimpleNamespace))  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)

    def run(*given: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["run_onnx.py", *given])
        monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
        code: Any = 0
        with warnings.catch_warnings():
            warnings.showwarning = lambda *about: sys.stderr.write(warnings.formatwarning(*about[:4]))  # pytest keeps them otherwise
            try:
                runpy.run_path(str(folder / "run_onnx.py"), run_name="__main__")
            except SystemExit as ended:
                code = ended.code
        return code, *capsys.readouterr()

    return run


Program = Callable[..., tuple[int, str, str]]


def test_capitals_unknown_pieces_and_ends_are_told(program: Program, tmp_path: Path) -> None:
    assert program("generate", "a small red ring") == (0, "out.png\n", "")
    code, out, err = program("generate", "A small RED ring", "-o", "shouted.png")
    assert (code, out) == (0, "shouted.png\n")
    assert err == "warning: the text is read in lower case: this model's training texts had no capitals\n"
    assert (tmp_path / "shouted.png").read_bytes() == (tmp_path / "out.png").read_bytes()
    _, _, err = program("generate", "a red zebra, a whale", " ".join(["red ring"] * 5), "-o", "told.png")
    assert err.splitlines() == [
        "warning: text 1 of 2: never seen in training, so nothing can be known of it: zebra, whale",
        f"warning: text 2 of 2 has 12 tokens and is cut to 8, the most that the model reads: '{' '.join(['red ring'] * 5)}'",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["generate", ""], "the text is empty: expected words"),
        (["generate", "a ring", " ", "-o", "b.png"], "text 2 of 2 is empty: expected words"),
        (["generate", "a ring", "-o", "there.png"], "there.png is there already; choose another name, or write over it with --overwrite"),
        (["generate", "a ring", "-o", "b.doc"], "b.doc: expected a name that ends in .png, .jpg or another ending of pictures"),
        (["generate", "a ring", "-o", "none/b.png"], "none/b.png: No such file or directory"),
        (["--seed", "-1", "generate", "a ring"], "--seed -1: expected at least 0"),
        (["caption", "there.png", "--temperature", "-1"], "--temperature -1.0: expected at least 0"),
        (["caption", "none.png"], "there is no picture none.png"),
        (["caption", "words.png"], "words.png is no picture of a kind that Pillow reads"),
        (["caption", "half.png"], "half.png cannot be read ("),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(program: Program, tmp_path: Path, given: list[str], message: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "there.png")
    whole = (tmp_path / "there.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "words.png").write_text("no picture")
    code, out, err = program(*given)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"error: {message}")
    assert (tmp_path / "there.png").read_bytes() == whole and not (tmp_path / "b.png").exists()


def test_it_writes_over_a_file_where_it_may(program: Program, tmp_path: Path) -> None:
    (tmp_path / "out.png").write_text("mine")
    assert program("generate", "a ring", "--overwrite")[0] == 0
    assert Image.open(tmp_path / "out.png").size == (8, 8)


def test_what_a_picture_loses_and_a_caption_lacks_is_told(program: Program, tmp_path: Path) -> None:
    Image.new("RGB", (32, 8)).save(tmp_path / "wide.png")
    code, out, err = program("caption", "wide.png")
    assert (code, out) == (0, "wide.png: a a\n")
    assert err.splitlines() == [
        "warning: 75% of the picture wide.png lies outside what is read: the model reads the middle, as its data were cropped",
        "warning: 1 of 1 captions end because they may not be longer than 4 tokens",
    ]


def test_a_vocabulary_with_capitals_is_read_as_it_is() -> None:
    alone = Words(plain(Held("word", CONFIG), tokenizer("a red Ring")))  # type: ignore[arg-type]
    assert alone.known_best("A Red Ring") == "A Red Ring" and alone.unknown("A Red Ring") == ["A", "Red"]
