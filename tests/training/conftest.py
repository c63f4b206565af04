"""Tiny trainings, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from ibllm_cli.main import cli

from ibllm_core.recipe import Recipe, load
from ibllm_core.training.job import Job

TINY = Path(__file__).parent / "tiny.toml"


@pytest.fixture(scope="session")
def tiny(device: torch.device):  # type: ignore[no-untyped-def]
    """``tiny(*sets, seed=None)``: the tiny recipe with overrides, on the `device` unless one says otherwise."""

    def make(*sets: str, seed: int | None = None) -> Recipe:
        said = any(key.startswith("compute.device=") for key in sets)
        return load(TINY, sets if said else (f"compute.device={device.type}", *sets), seed)

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny) -> Path:  # type: ignore[no-untyped-def]
    """The directory of an uninterrupted run of the tiny recipe on the CPU."""
    path = tmp_path_factory.mktemp("finished") / "run"
    Job(tiny("compute.device=cpu", "compute.threads=1"), path).run()
    return path


def invoke(*arguments: object) -> Result:
    """The command line, in this process, without its error boundary."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], standalone_mode=False)
