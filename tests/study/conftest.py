"""Small studies over the tiny recipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests import processes
from tests.conftest import WITHOUT

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"

#: The head of a study over the tiny recipe; what a test adds comes after it.
HEAD = """\
format = 1
base = "{base}"
seeds = {seeds}
primary = "novel/scene_exact"
"""

Write = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def _forked_workers() -> Iterator[None]:
    """The workers of studies that are run in this process are forked from one that has torch imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", processes.executable())
        patch.setenv("IBLLM_BLOCK", WITHOUT)
        yield


@pytest.fixture
def write_study(tmp_path: Path) -> Write:
    """``write_study(rest, seeds=2, name="study")``: a study file over the tiny recipe."""

    def write(rest: str, seeds: object = 2, name: str = "study") -> Path:
        path = tmp_path / f"{name}.toml"
        path.write_text(HEAD.format(base=TINY, seeds=seeds) + rest, encoding="utf-8")
        return path

    return write


def invoke(*arguments: object) -> Result:
    """The command line, in this process, with its error boundary's exit code."""
    from ibllm_cli.main import cli

    return CliRunner().invoke(cli, [str(argument) for argument in arguments], standalone_mode=False)
