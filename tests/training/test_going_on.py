"""What a run goes on from: never from what is damaged or holds no numbers, never silently, never where another process trains."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ibllm_core.errors import Notice, UserError
from ibllm_core.model.stage import StageTrainer
from ibllm_core.runs.directory import Held, RunDirectory
from ibllm_core.training import checkpoints
from ibllm_core.training.job import Job

from .conftest import TINY, invoke
from .test_resume import interrupted

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unrehearsed_runs")]

SETS = (
    "compute.device=cpu",
    "compute.threads=1",
    "stages.text={steps=6, schedule={use='constant'}, validate={every=0}}",
    "stages.image.steps=0",
    "stages.joint.steps=0",
    "training.log_every=20",
    "training.checkpoint_every=2",
    "evaluation={items=2, samples=1}",
)
NAME = "parts.image_decoder.form.queries"


def command(*arguments: object) -> tuple[object, ...]:
    return ("run", TINY, *arguments, *(part for key in SETS for part in ("--set", key)))


@pytest.fixture(scope="module")
def stopped(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after step 5, with the checkpoints of steps 2, 4 and 5."""
    return interrupted(tiny(*SETS, "training.keep=3"), tmp_path_factory.mktemp("stopped") / "run", 5)


@pytest.fixture
def copy(stopped: Path, tmp_path: Path) -> Path:
    return shutil.copytree(stopped, tmp_path / "run")


def contents(path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and not file.name.startswith(".lock")}


def names(path: Path) -> set[str]:
    return {found.name for found in (path / "checkpoints").glob("*step-*")}


def record(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "run.json").read_text())
    return found


@pytest.mark.parametrize("stop", [False, True], ids=["goes-on", "stopped-at-once"])
def test_weights_that_are_no_numbers_are_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: bool) -> None:
    """They come in step 3, after which there would be a checkpoint (step 4), or the run is stopped: it fails, and goes on from step 2."""
    real = StageTrainer.iterate

    def iterate(self: StageTrainer, micro: Any) -> None:
        real(self, micro)
        if self.step == 3:
            dict(self.model.named_parameters())[NAME].data.view(-1)[0] = math.nan
            if stop:
                os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as poisoned:
        poisoned.setattr(StageTrainer, "iterate", iterate)
        error = invoke(*command("--run-dir", tmp_path / "run")).exception
    assert isinstance(error, UserError)
    assert f"stage text, step {3 if stop else 4}: not finite: weights parts." in str(error)
    assert record(tmp_path / "run")["status"] == "failed"
    assert names(tmp_path / "run") == {"step-0000002"}
    if not stop:
        result = invoke("run", tmp_path / "run", "--resume")
        assert result.exit_code == 0, result.exception
        assert record(tmp_path / "run")["status"] == "done"


def test_checkpoints_that_hold_no_numbers_are_passed_over(copy: Path) -> None:
    """An earlier version wrote them: the newest good one is taken, it is said why, and they take no good one's place."""
    for step, group in ((5, "weights"), (4, "optimizer-model")):
        folder = copy / "checkpoints" / f"step-000000{step}"
        kept = checkpoints.load(folder)
        tensors = {name: dict(tensors) for name, tensors in kept.tensors.items()}
        name = NAME if group == "weights" else next(name for name, t in tensors[group].items() if t.ndim)
        tensors[group][name].view(-1)[0] = math.inf if group == "weights" else math.nan
        checkpoints.save(folder, checkpoints.Checkpoint(kept.state, tensors))
    with pytest.warns(Notice, match=r"going on from step 2") as said:
        assert invoke("run", copy, "--resume").exit_code == 0
    (text,) = [str(warning.message) for warning in said if warning.category is Notice]
    assert f"step-0000005: not finite: weights {NAME}; step-0000004: not finite: optimizer-model " in text
    assert record(copy)["notices"] == [text]
    assert {"damaged-step-0000005", "damaged-step-0000004", "step-0000006-end"} <= names(copy)


def test_where_all_checkpoints_are_damaged_nothing_is_changed(copy: Path) -> None:
    for path in (copy / "checkpoints").glob("step-*"):
        with (path / "weights.safetensors").open("ab") as file:
            file.write(b"x")
    before = contents(copy)
    error = invoke("run", copy, "--resume").exception
    assert isinstance(error, UserError)
    for name in ("step-0000002", "step-0000004", "step-0000005"):
        assert f"{name}: weights.safetensors is not as it was written" in str(error)
    assert f"ibllm run {copy / 'recipe.toml'} --run-dir" in str(error)
    assert contents(copy) == before
    for path in (copy / "checkpoints").glob("step-*"):
        shutil.rmtree(path)
    RunDirectory(copy).update(stages=[{"name": "text"}])
    before = contents(copy)
    error = invoke("run", copy, "--resume").exception
    assert isinstance(error, UserError)
    assert "those of the stages that it has ended are gone" in str(error)
    assert contents(copy) == before


def test_what_does_not_fit_the_model_any_more_is_said(copy: Path) -> None:
    kept = checkpoints.load(copy / "checkpoints" / "step-0000005")
    weights = {name: t for name, t in kept.tensors["weights"].items() if name != NAME}
    checkpoints.save(copy / "checkpoints" / "step-0000005", checkpoints.Checkpoint(kept.state, kept.tensors | {"weights": weights}))
    error = invoke("run", copy, "--resume").exception
    assert isinstance(error, UserError)
    assert "what was saved of parts.image_decoder does not fit what is built now" in str(error)
    assert '"form.queries"' in str(error)


@pytest.mark.parametrize(
    "content", ["[]", "3", "null", '"x"', "{", "", "\udcff", '{"hooks": 3}', '{"stages": {}}', '{"sources": null, "versions": []}']
)
def test_a_damaged_record_is_named_and_left_as_it_is(copy: Path, content: str) -> None:
    (copy / "run.json").write_text(content, errors="surrogateescape")
    before = contents(copy)
    for arguments in (("run", copy, "--resume"), ("evaluate", copy), ("diff", copy, copy)):
        error = invoke(*arguments).exception
        assert isinstance(error, UserError), arguments
        assert f"{copy / 'run.json'} is damaged" in str(error)
    assert invoke("report", copy).exit_code == 0, "the report shows what there is"
    assert {path: data for path, data in contents(copy).items() if path.name != "report.html"} == {
        path: data for path, data in before.items() if path.name != "report.html"
    }


@pytest.fixture
def holder(copy: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that trains in the run's directory, as far as others can see."""
    code = "import pathlib, sys, time; from ibllm_core.runs.directory import RunDirectory"
    code += "\nwith RunDirectory(pathlib.Path(sys.argv[1])).held(): print('held', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code, str(copy)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_two_processes_do_not_train_in_one_directory(copy: Path, holder: subprocess.Popen[str]) -> None:
    """The second is told who is there; one that was killed is in nobody's way; who only reads needs no lock."""
    (copy / "run.json").write_text("{}")  # what the end needs of it is made anew
    before = contents(copy)
    error = invoke("run", copy, "--resume").exception
    assert isinstance(error, Held)
    assert f"is being trained in by process {holder.pid} on {socket.gethostname()} since 2" in str(error)
    assert contents(copy) == before
    assert invoke("report", copy).exit_code == 0
    holder.kill()
    holder.wait()
    assert (copy / ".lock.json").exists(), "it could not clean up"
    assert invoke("run", copy, "--resume").exit_code == 0
    assert not (copy / ".lock.json").exists()
    assert record(copy)["status"] == "done"
    assert record(copy)["versions"]


def test_two_new_runs_do_not_share_a_directory(tiny: Any, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    with directory.held(), directory.held():
        directory.require_new()
        directory.create(tiny())
        with pytest.raises(UserError, match="exists already"):
            directory.create(tiny())
    assert {path.name for path in directory.path.iterdir()} == {".lock", "recipe.toml", "checkpoints"}


def test_a_directory_that_cannot_be_locked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/run: Not a directory; choose another place"), RunDirectory(tmp_path / "file" / "run").held():
        pass
    monkeypatch.setattr("filelock.FileLock.acquire", no_locks)
    with pytest.raises(UserError, match=r"cannot write or lock .*run: No locks available"), RunDirectory(tmp_path / "run").held():
        pass


def test_a_run_that_was_started_from_may_be_gone_unless_a_stage_still_starts_from_it(tiny: Any, tmp_path: Path) -> None:
    run, teacher = tmp_path / "run", tmp_path / "teacher"
    short = (*SETS, "stages.text.steps=1", "training.keep=9")
    Job(tiny(*short), teacher).run()
    start = f"{{ run = '{teacher}', parts = ['text_encoder'] }}"
    starts = (f"model.text_encoder.init={start}", f"stages.image.init={start}")
    Job(tiny(*short, "stages.image.steps=3", "stages.image.validate.every=0", *starts), run).run()
    sources = record(run)["sources"]
    early = shutil.copytree(run, tmp_path / "early")
    for path, kept in ((run, ("step-0000001-end", "step-0000003")), (early, ("step-0000001-end",))):
        for name in names(path).difference(kept):
            shutil.rmtree(path / "checkpoints" / name)
    teacher.rename(tmp_path / "gone")
    error = invoke("run", early, "--resume").exception
    assert isinstance(error, UserError)
    assert f"stages.image.init.run: there is no run {teacher}, and weights are still to be taken from it: put it back" in str(error)
    assert record(early)["sources"] == sources

    with pytest.warns(Notice) as told:
        assert invoke("run", run, "--resume").return_value == 0
    for key in ("model.text_encoder", "stages.image"):
        said = f"{key}.init.run: there is no run {teacher}; the run goes on without it"
        assert [str(one.message) for one in told].count(said) == record(run)["notices"].count(said) == 1
    assert record(run)["sources"] == sources, "what it was started from is still known by its hash"
