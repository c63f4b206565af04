"""What the environment says of processes is not taken literally: variables that make no sense are named, and so is a process that is gone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from ibllm_cli.main import main

from ibllm_core.training import distributed
from ibllm_core.training.distributed import described, first_process

from .conftest import TINY

WHOLE = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def environment(monkeypatch):
    def set_to(**values: str) -> None:
        for name in WHOLE:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_to


@pytest.mark.parametrize(
    ("values", "described_as"),
    [
        ({}, (0, 1, 0)),
        ({"WORLD_SIZE": "1"}, (0, 1, 0)),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, (0, 1, 0)),
        ({"RANK": "", "WORLD_SIZE": " "}, (0, 1, 0)),
        (WHOLE, (1, 2, 1)),
        ({name: value for name, value in WHOLE.items() if name != "LOCAL_RANK"}, (1, 2, 0)),
    ],
)
def test_what_torchrun_says_is_read(environment, values, described_as):
    environment(**values)
    assert described() == described_as
    assert first_process() == (described_as[0] == 0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"RANK": "1"}, "RANK=1, which is one of several processes, but no WORLD_SIZE, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2, which is one of several processes, but no RANK, MASTER_ADDR, MASTER_PORT"),
        ({"LOCAL_RANK": "1"}, "LOCAL_RANK=1, which is one of several processes, but no RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE='x', which is no whole number"),
        ({"RANK": "-1"}, "RANK='-1', which is no whole number"),
        ({"LOCAL_RANK": "garbage"}, "LOCAL_RANK='garbage', which is no whole number"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT='http', which is no whole number"),
        (WHOLE | {"RANK": "2"}, "expected ranks from 0 to WORLD_SIZE - 1"),
        (WHOLE | {"WORLD_SIZE": "0"}, "expected ranks from 0 to WORLD_SIZE - 1"),
    ],
)
def test_variables_that_make_no_sense_are_named_before_anything_is_done(environment, capsys, tmp_path, values, said):
    environment(**values)
    assert main(["run", str(TINY), "--run-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "torchrun --nproc-per-node N -m ibllm run …" in error
    assert f"for one: unset {' '.join(name for name in values if name in error)}" in error or len(values) > 1
    assert not (tmp_path / "run").exists()


def test_a_process_that_was_killed_is_named(monkeypatch):
    here = socket.gethostname()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        monkeypatch.setattr(distributed, "_peers", [(here, os.getpid()), (here, other.pid)])
        other.kill()
        said = distributed.who_is_gone()  # nobody has asked after it yet
    assert said.startswith(f"rank 1 (process {other.pid}) of this run is gone; where its own output does not say why, it was killed")


def test_processes_of_other_machines_are_asked_after_there(monkeypatch):
    monkeypatch.setattr(distributed, "_peers", [(socket.gethostname(), os.getpid()), ("afar", 1)])
    monkeypatch.setattr(distributed.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(distributed.time, "monotonic", iter(range(0, 99, 3)).__next__)
    assert distributed.who_is_gone() == "another process of this run does not answer; the others are on afar: what they wrote says why"
