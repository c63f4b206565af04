"""What the operating system refuses is the user's error, with path and remedy; what is whole stays whole, nothing is left half-written."""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from ibllm_cli.main import main

from ibllm_core.errors import UserError, system_error, writing
from ibllm_core.runs import directory
from ibllm_core.runs.directory import RunDirectory, replacing, write_text
from ibllm_core.runs.model_folder import write_weights
from ibllm_core.training.events import Bus, Listener, Logged
from ibllm_core.training.job import Job
from ibllm_core.training.listeners import MetricsFile

from .conftest import TINY

SETS = (
    "stages.text.steps=4",
    "stages.image.steps=0",
    "stages.joint.steps=0",
    "training.checkpoint_every=2",
    "evaluation.items=2",
    "compute.threads=1",
)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Within, no file of this process may get larger: a refusal that root meets, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def hidden(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.partial"))


@pytest.mark.slow
def test_a_run_whose_checkpoint_is_refused_goes_on_from_the_one_before(tiny, tmp_path: Path, capsys) -> None:
    class Fills(Listener):
        """After the first checkpoint, large files are refused."""

        def on_logged(self, event: Logged) -> None:
            if event.total == 4:
                self.limit = largest_file(20_000)
                self.limit.__enter__()

    fills, run = Fills(), tmp_path / "a run"
    try:
        with pytest.raises(UserError, match=r"checkpoints/step-0000004-end: File too large; allow larger files"):
            Job(tiny(*SETS), run, [fills]).run()
    finally:
        fills.limit.__exit__(None, None, None)
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert (info["status"], "File too large" in info["error"]) == ("failed", True)
    assert not hidden(run)
    assert "test/items" in Job(tiny(*SETS), run).run(resume=True)
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert steps == sorted(steps) and 2 in steps


def test_a_run_that_cannot_begin_leaves_the_place_free(tiny, tmp_path: Path, monkeypatch) -> None:
    def full(path: Path) -> None:
        if ".run.json." in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(directory, "sync", full)
    with pytest.raises(UserError, match=r"run/run.json: No space left on device; make room on that file system"):
        Job(tiny(*SETS), tmp_path / "run").run()
    assert not hidden(tmp_path)
    RunDirectory(tmp_path / "run").require_new()


@pytest.mark.parametrize(
    ("number", "helps"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "can be written to"),
        (errno.EACCES, "permissions"),
        (errno.EPERM, "permissions"),
        (errno.ENAMETOOLONG, "shorter name"),
        (errno.ENOTDIR, "a file stands where a folder is needed"),
        (errno.EISDIR, "a folder stands where a file is needed"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "too many files open"),
        (errno.EIO, "device"),
        (errno.ESTALE, "mount the network file system anew"),
        (errno.ENOENT, ""),
    ],
)
def test_each_refusal_is_told_with_path_and_remedy(monkeypatch, capsys, number: int, helps: str) -> None:
    def refused(*_: object, **__: object) -> None:
        with writing("some where/file"):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr("ibllm_cli.main.cli.main", refused)
    assert main(["recipes"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: some where/file: {os.strerror(number)}")
    assert helps in said
    assert "Traceback" not in said


def test_other_errors_are_none_of_the_systems() -> None:
    assert system_error(ValueError("a bug")) is None
    assert system_error(OSError("a library's own")) is None


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_written_takes_its_place_whole_or_not_at_all(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"

    def write(text: str) -> None:
        with largest_file(100), replacing(target) as partial:
            if kind == "folder":
                partial.mkdir()
            (partial / "inside" if kind == "folder" else partial).write_text(text, encoding="utf-8")

    write("first")
    with pytest.raises(OSError, match="File too large") as refused:
        write("second" * 100)
    assert (refused.value.errno, refused.value.filename) == (errno.EFBIG, str(target))
    inside = target / "inside" if kind == "folder" else target
    assert inside.read_text(encoding="utf-8") == "first", "what is whole stays whole"
    assert not hidden(tmp_path)
    write("third")
    assert inside.read_text(encoding="utf-8") == "third"


def test_weights_that_are_refused_say_where(tmp_path: Path) -> None:
    with largest_file(1000), pytest.raises(OSError, match=r"weights.safetensors") as refused:
        write_weights(tmp_path / "weights.safetensors", {"w": torch.zeros(4096)})
    assert refused.value.errno == errno.EFBIG


def test_a_run_ends_when_its_figures_cannot_be_kept_but_not_for_others_trouble(tmp_path: Path, recwarn) -> None:
    bus = Bus()
    bus.add(MetricsFile(tmp_path / "metrics.jsonl", 0))

    class Other(Listener):
        def on_logged(self, event: Logged) -> None:
            with writing(tmp_path / "notes"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    bus.add(Other())
    bus.emit(Logged("train", "text", 1, 1, {"loss": 1.0}))
    (notice,) = [str(warning.message) for warning in recwarn]
    assert f"raised {tmp_path}/notes: No space left on device; make room on that file system; the run goes on without it" in notice
    assert "maintainer" not in notice
    with largest_file(10), pytest.raises(OSError, match=r"metrics.jsonl"):
        bus.emit(Logged("train", "text", 2, 2, {"loss": 1.0}))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", str(TINY), "--run-dir", "x" * 300], "File name too long; choose a shorter name"),
        (["run", str(TINY), "--run-dir", "{tmp}/file"], "is a file"),
        (["run", "{tmp}/file/recipe.toml"], "Not a directory"),
        (["report", "{tmp}/file"], "no run directory"),
        (["evaluate", "x" * 300], "File name too long"),
        (["plugin", "new", "mine", "--kind", "loss", "--dir", "{tmp}/file/x"], "Not a directory"),
    ],
)
def test_places_that_cannot_be_are_named(tmp_path: Path, capsys, arguments: list[str], said: str) -> None:
    (tmp_path / "file").write_text("")
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "internal" not in error


def test_a_name_that_the_locale_lacks_is_told(monkeypatch, capsys) -> None:
    def refused(*_: object, **__: object) -> None:
        "é".encode("ascii")

    monkeypatch.setattr("ibllm_cli.main.cli.main", refused)
    assert main(["recipes"]) == 2
    assert "LC_ALL=C.UTF-8" in capsys.readouterr().err


def test_a_place_that_the_locale_cannot_name_is_not_called_damaged(tmp_path: Path, monkeypatch) -> None:
    def named(*_: object, **__: object) -> str:
        "é".encode("ascii")
        return ""

    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(Path, "read_text", named)
    with pytest.raises(UnicodeEncodeError):
        RunDirectory(tmp_path).info()


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "é\n")
    assert (tmp_path / "text").read_bytes() == b"\xc3\xa9\n"
