"""What the environment says of processes is not taken literally: variables that make no sense are named, and so is a process that is gone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import torch
from ibllm_cli.main import main

from ibllm_core.errors import UserError
from ibllm_core.training import distributed
from ibllm_core.training.distributed import described, first_process, launchers, started_again

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


def test_several_processes_on_xla_are_refused(environment):
    environment(**WHOLE)
    with pytest.raises(UserError, match="device xla:0: 2 processes; expected one"):
        distributed.join(torch.device("xla:0"))


def test_a_process_that_was_killed_is_named(monkeypatch):
    here = socket.gethostname()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        monkeypatch.setattr(distributed, "_peers", [(here, os.getpid(), ""), (here, other.pid, "")])
        other.kill()
        said = distributed.who_is_gone()  # nobody has asked after it yet
    assert said.startswith(f"rank 1 (process {other.pid}) of this run is gone; where its own output does not say why, it was killed")


def test_processes_of_other_machines_are_asked_after_there(monkeypatch):
    monkeypatch.setattr(distributed, "_peers", [(socket.gethostname(), os.getpid(), ""), ("afar", 1, "")])
    monkeypatch.setattr(distributed.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(distributed.time, "monotonic", iter(range(0, 99, 3)).__next__)
    assert distributed.who_is_gone() == "another process of this run does not answer; the others are on afar: what they wrote says why"


@pytest.mark.parametrize(
    ("asked", "environment_has", "said"),
    [
        ("two", {}, "--nproc two: expected a number of processes, or auto for one a GPU"),
        ("0", {}, "--nproc 0: expected a number of processes"),
        ("auto", {}, "--nproc auto is one process a GPU, and they are to compute on the CPU (compute.device); say how many: --nproc 2"),
        ("3", WHOLE, "--nproc 3, but torchrun has started 2 processes (WORLD_SIZE): expected one of the two"),
    ],
)
def test_numbers_of_processes_that_cannot_be_are_refused(environment, capsys, tmp_path, asked, environment_has, said):
    environment(**environment_has)
    assert main(["run", str(TINY), "--run-dir", str(tmp_path / "run"), "--device", "cpu", "--nproc", asked]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_is_there_already_is_told_before_any_process_is_started(environment, capsys, tmp_path):
    environment()
    (tmp_path / "notes.txt").touch()
    assert main(["run", str(TINY), "--run-dir", str(tmp_path), "--nproc", "2"]) == 2
    assert f"{tmp_path} exists already" in capsys.readouterr().err


def test_only_processes_that_their_own_launcher_starts_again_go_on(environment, monkeypatch):
    environment()
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert launchers() == []
    assert not started_again([])
    for job, known in (("a-job", ["a-job"]), ("none", [f"{socket.gethostname()}:{os.getppid()}"])):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", job)
        assert launchers() == known
        assert started_again(known)
        assert not started_again(["another-job"])
