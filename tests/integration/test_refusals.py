"""A real file system that is full, at every size, and read-only; processes that are killed; locales without UTF-8. Linux, and root for the mounts."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from ibllm_study.sharing import finished

from ibllm_core.runs.directory import RunDirectory

from .needs import needs

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
SHORT = (
    "stages.text.steps=2",
    "stages.image.steps=0",
    "stages.joint.steps=0",
    "compute.threads=1",
    "evaluation.items=2",
    "compute.device=cpu",
)
LONG = ("stages.text.steps=100000", "compute.threads=1", "compute.device=cpu")


def start(*arguments: object, sets: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ibllm", *map(str, arguments), *(part for key in sets for part in ("--set", key))]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment, text=True, **pipes)  # type: ignore[call-overload, no-any-return]


def ibllm(*arguments: object, sets: tuple[str, ...] = (), **environment: str) -> tuple[int, str, str]:
    process = start(*arguments, sets=sets, **environment)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    made = (
        shutil.which("mount") is not None
        and not subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]).returncode
    )
    needs("root, to mount a file system", made)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def resize(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


@pytest.mark.parametrize("size", ["8k", "40k", "100k", "250k", "400k", "500k", "600k", "700k"])
def test_a_full_file_system_is_told_and_the_run_goes_on_when_there_is_room(tmp_path: Path, size: str) -> None:
    with mounted(tmp_path / "full", size) as folder:
        run = folder / "a run"
        code, _, err = ibllm("run", TINY, "--run-dir", run, sets=SHORT)
        assert "Traceback" not in err
        assert not list(folder.rglob(".*.partial")), "nothing is half-written"
        if code:
            assert code == 2, err
            assert f"error: {run}" in err
            assert "No space left on device; make room on that file system" in err
        else:
            assert "report" in err, "what was left out is told"
        resize(folder, "size=10m")
        again = RunDirectory(run).info() and list((run / "checkpoints").glob("step-*"))
        if code and not again and run.is_dir() and any(path for path in run.iterdir() if not path.name.startswith(".lock")):
            shutil.rmtree(run)  # it failed before its first checkpoint, and said so
        code, _, err = ibllm("run", run, "--resume") if again else ibllm("run", TINY, "--run-dir", run, sets=SHORT)
        assert code == 0, err
        assert finished(RunDirectory(run))


def test_a_read_only_place_is_told(tmp_path: Path) -> None:
    with mounted(tmp_path / "locked", "10m") as folder:
        run = folder / "run"
        assert ibllm("run", TINY, "--run-dir", run, sets=SHORT)[0] == 0
        resize(folder, "ro")
        for arguments in (("run", TINY, "--run-dir", folder / "other"), ("report", run), ("run", run, "--resume")):
            code, _, err = ibllm(*arguments, sets=SHORT if "--run-dir" in arguments else ())
            assert code == 2, err
            assert "Read-only file system" in err
            assert "Traceback" not in err
        assert ibllm("evaluate", run, "--items", 2, "--json")[0] == 0, "measuring writes nothing"


def ranks(run: Path, count: int = 2) -> list[subprocess.Popen[str]]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    each: list[Mapping[str, str]] = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    return [start("run", TINY, "--run-dir", run, sets=LONG, **environment) for environment in each]


@pytest.mark.parametrize("killed", [0, 1])
def test_the_others_name_a_process_that_was_killed(tmp_path: Path, killed: int) -> None:
    run = tmp_path / "run"
    processes = ranks(run)
    until = time.monotonic() + 120
    while not list((run / "checkpoints").glob("step-*")) and time.monotonic() < until:
        time.sleep(0.1)
    processes[killed].kill()
    begun = time.monotonic()
    _, err = processes[1 - killed].communicate(timeout=120)
    assert (took := time.monotonic() - begun) < 10, f"{took:.1f} s"
    assert processes[1 - killed].returncode == 2, err
    assert f"error: rank {killed} (process {processes[killed].pid}) of this run is gone" in err
    assert "Traceback" not in err
    if killed == 1:
        assert "rank 1" in json.loads((run / "run.json").read_text(encoding="utf-8"))["error"]


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1", "TZ": "Asia/Kathmandu", "NO_COLOR": "1", "COLUMNS": "x"},
        {"HOME": "/nowhere", "TMPDIR": "/nowhere", "XDG_CACHE_HOME": "/nowhere"},
        {"PYTHONWARNINGS": "error::UserWarning"},
        {"CUDA_VISIBLE_DEVICES": "x", "OMP_NUM_THREADS": "x"},
    ],
)
def test_a_training_does_not_depend_on_its_environment(tmp_path: Path, environment: dict[str, str]) -> None:
    code, _, err = ibllm("run", TINY, "--run-dir", tmp_path / "run", sets=SHORT, **environment)
    assert code == 0, err
    assert "Traceback" not in err
    assert finished(RunDirectory(tmp_path / "run"))


def test_a_name_that_the_locale_lacks_is_the_users(tmp_path: Path) -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'format = 1\nextends = "{TINY}"\nname = "été"\n', encoding="utf-8")
    code, _, err = ibllm("check", recipe, **locale)
    assert code == 0, err
    process = subprocess.run(
        [sys.executable, "-m", "ibllm", "run", str(recipe), *(part for key in SHORT for part in ("--set", key))],
        cwd=tmp_path, env=os.environ | locale, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode in (0, 2), process.stderr
    assert "Traceback" not in process.stderr
    assert process.returncode == 0 or "LC_ALL=C.UTF-8" in process.stderr


def test_a_run_and_its_data_may_move_together(tmp_path: Path) -> None:
    from PIL import Image

    here, there = tmp_path / "here", tmp_path / "there"
    (here / "data").mkdir(parents=True)
    for number in range(60):
        Image.new("RGB", (32, 32), (number * 4, 100, 50)).save(here / "data" / f"{number}.png")
    rows = "".join(f"{number}.png,a thing {number % 7} of colour {number % 5}\n" for number in range(60))
    (here / "data" / "captions.csv").write_text(f"image,caption\n{rows}", encoding="utf-8")
    recipe = f'format = 1\nextends = "{TINY}"\nname = "files"\n[data]\nuse = "files"\npath = "captions.csv"\n[metrics]\nscene = false\n'
    recipe += 'caption_facts = false\nround_trip = false\nchrf = { use = "chrf" }\n[stages.image.validate]\nfigure = "chrf"\n'
    (here / "data" / "r.toml").write_text(recipe, encoding="utf-8")
    sets = (*SHORT, "training.checkpoint_every=1")
    code, _, err = ibllm("run", here / "data" / "r.toml", "--run-dir", here / "a run", sets=sets)
    assert code == 0, err
    before = json.loads((here / "a run" / "results.json").read_text(encoding="utf-8"))
    here.rename(there)
    code, out, err = ibllm("evaluate", there / "a run", "--json")
    assert (code, json.loads(out)) == (0, before), err
    assert f"is not there; {there}/data/captions.csv is used" in err
    shutil.rmtree(there / "a run" / "checkpoints" / "step-0000002-end")
    code, _, err = ibllm("run", there / "a run", "--resume")
    assert code == 0, err
    assert json.loads((there / "a run" / "results.json").read_text(encoding="utf-8")) == before
