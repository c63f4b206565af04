"""A tiny run that has learnt nothing, and a shell to use it in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from ibllm_cli.main import main

import ibllm

TINY = Path(__file__).with_name("tiny.toml")
#: What a run does without that is of no use here.
WITHOUT = "rehearsal,report,contracts,vocabulary,divergence,passes,capture"
FLOW = "model.image_decoder = { use = 'flow', depth = 1, heads = 2, patch = 8 }"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``trained("KEY = VALUE", …)``: the run directory of tiny.toml with these overrides, trained once."""
    made: dict[tuple[str, ...], Path] = {}

    def train(*sets: str) -> Path:
        if sets not in made:
            folder = tmp_path_factory.mktemp("run") / "tiny"
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("IBLLM_BLOCK", WITHOUT)
                ibllm.recipe(TINY, set=sets).run(folder)
            made[sets] = folder
        return made[sets]

    return train


@pytest.fixture(scope="session")
def run(trained: Callable[..., Path]) -> Path:
    return trained()


@attrs.frozen
class Said:
    """What a command did: exit code, standard output and error, and the notices that it gave."""

    code: int
    out: str
    err: str
    notices: list[str]

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> Callable[..., Said]:
    """``shell("generate", …)`` runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object, typed: bytes = b"") -> Said:
        capsys.readouterr()
        recwarn.clear()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdin", Typed(typed))
            code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Said(code, out, err, [str(warning.message) for warning in recwarn.list])

    return run


class Typed:
    """Standard input that holds some bytes."""

    def __init__(self, raw: bytes) -> None:
        import io

        self.buffer = io.BytesIO(raw)

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        raise OSError
