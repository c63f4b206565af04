"""The page's JavaScript and the stand-alone program say the same of texts: Node runs the one, Python the other."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import ibllm_export
from ibllm_export.run_onnx import Words
from ibllm_export.tokenizer_files import plain
from ibllm_tokenizers.config import WordConfig
from ibllm_tokenizers.word import WordTokenizer

from ibllm.plugin import Context
from tests.export.test_tokenizer_files import Held

from .needs import needs

TEXTS = ("a small red ring", "A small RED ring", "a zebra, a Whale!", "RED red", "", "a  red?", "É red")
ASK = "; const words = new Words(JSON.parse(process.argv[1])); const said = (t) => [words.knownBest(t), words.unknown(words.knownBest(t))];"


def test_both_read_texts_alike() -> None:
    node = shutil.which("node")
    needs("node", node is not None)
    script = (Path(ibllm_export.__file__).parent / "page" / "model.js").read_text(encoding="utf-8")
    for corpus in (["a small red ring"], ["a small red Ring"]):
        config = WordConfig(size=32, max_length=8)
        tokenizer = WordTokenizer(config, Context(seed=0))
        tokenizer.train(corpus)
        state: Any = plain(Held("word", config), tokenizer)  # type: ignore[arg-type]
        alone = Words(state)
        command = [str(node), "-e", f"{script}{ASK}; console.log(JSON.stringify({json.dumps(TEXTS)}.map(said)))", json.dumps(state)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert found == [[alone.known_best(text), alone.unknown(alone.known_best(text))] for text in TEXTS]
