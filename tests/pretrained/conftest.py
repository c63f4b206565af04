"""Small models, made once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pretrained.models import PREPROCESSORS, codecs, language_models, vision_models, write_preprocessor, write_tokenizer

#: Special tokens of tokenizers that have others.
TOKENIZERS: dict[str, tuple[Any, ...]] = {"siglip": ({"pad_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>"}, "")}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A model's folder by the architecture's name, made when it is first asked for. Nobody writes into it."""
    transformers = pytest.importorskip("transformers")
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                (language_models() | vision_models())[kind](transformers).eval().save_pretrained(str(made[kind]))
            write_tokenizer(made[kind], *TOKENIZERS.get(kind, ()))
            if kind in PREPROCESSORS:
                write_preprocessor(made[kind], kind)
        return made[kind]

    return folder


@pytest.fixture(scope="session")
def codec_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A codec's folder by name, made when it is first asked for. Nobody writes into it."""
    diffusers = pytest.importorskip("diffusers")
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = codecs()[kind](diffusers).eval()
                if kind == "vq":
                    model.quantize.embedding.weight.data.normal_()
                model.save_pretrained(str(made[kind]))
        return made[kind]

    return folder


@pytest.fixture
def said(tmp_path: Path) -> Callable[[Path, dict[str, Any]], Path]:
    """A copy of a model's folder with another config.json."""

    def changed(folder: Path, values: dict[str, Any]) -> Path:
        copy = Path(shutil.copytree(folder, tmp_path / folder.name, dirs_exist_ok=True))
        settings = json.loads((copy / "config.json").read_text(encoding="utf-8"))
        (copy / "config.json").write_text(json.dumps(settings | values), encoding="utf-8")
        return copy

    return changed
