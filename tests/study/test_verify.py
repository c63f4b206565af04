"""``ibllm ablate --verify``: a run once more, compared bit for bit."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from ibllm_study.directory import StudyDirectory
from ibllm_study.plan import Plan, make_plan
from ibllm_study.runner import Runner
from ibllm_study.study_file import read_study
from ibllm_study.verify import differences, finished, verify

from ibllm.launching import Place, make_launcher
from ibllm_core.errors import UserError
from tests.processes import ibllm

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
#: A figure is changed by so little, and still by a normal number: subnormal ones are flushed to zero.
EDIT = 2.0**-40
STUDY = f"""
format = 1
base = "{TINY}"
name = "study"
seeds = 1
primary = "novel/scene_exact"
[set]
"stages.text.steps" = 2
"stages.image.steps" = 0
"stages.joint" = {{ steps = 2, losses = {{ joint = 1.0 }} }}
"evaluation" = {{ items = 4, after_stage = 0 }}
[variants]
"λ = 0" = {{ "losses.joint.lambda" = 0.0 }}
"""


def opened(folder: Path) -> tuple[Plan, StudyDirectory]:
    file = folder / "study.toml"
    file.write_text(STUDY, encoding="utf-8")
    return make_plan(read_study(file)), StudyDirectory(folder / "out")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study whose second run started from a stage of the first."""
    folder = tmp_path_factory.mktemp("verified")
    plan, directory = opened(folder)
    directory.prepare(plan)
    Runner(plan, directory, make_launcher("local", (), Place(folder=directory / "jobs", jobs=1))).run()
    return folder


class Last(random.Random):
    """Chooses the last one: the run that was not trained from its start."""

    def choice(self, seq):  # type: ignore[no-untyped-def]
        return seq[-1]


def ablate(folder: Path) -> subprocess.CompletedProcess[str]:
    command = ibllm("ablate", folder / "study.toml", "--study-dir", folder / "out", "--verify")
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_run_with_a_shared_start_is_the_same_from_scratch(done: Path) -> None:
    plan, directory = opened(done)
    cell = plan.cell("λ = 0", 0)
    assert directory.run(cell).info()["shared"]["stage"] == "text"
    said: list[str] = []
    assert verify(plan, directory, said.append, Last())
    assert cell.id in said[0]
    count = len(json.loads(directory.run(cell).results.read_text()))
    assert said[-1] == f"verified: all {count} figures and the weights of {cell.id} are equal, bit for bit"
    assert not (directory / "verify").exists(), "nothing is left behind"


@pytest.mark.slow
def test_another_figure_is_named_with_both_values_and_the_second_run_is_kept(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "copy")
    folder = tmp_path / "copy"
    plan, directory = opened(folder)
    truth = {}
    for cell in plan.cells:
        path = directory.run(cell).results
        figures = json.loads(path.read_text())
        truth[cell.id] = figures["novel/scene_exact"]
        path.write_text(json.dumps(figures | {"novel/scene_exact": truth[cell.id] + EDIT}))
        info = directory.run(cell) / "run.json"
        info.write_text(json.dumps(json.loads(info.read_text()) | {"versions": {"torch": "1.0"}}))
    process = ablate(folder)
    assert process.returncode == 1, process.stderr
    name = process.stdout.split("chosen at random: ")[1].split(";")[0]
    assert f"novel/scene_exact: {truth[name] + EDIT!r} in the study, {truth[name]!r} now" in process.stdout
    assert "versions.torch: 1.0 then, " in process.stdout
    assert "1 of " in process.stdout
    kept = Path(process.stdout.split("the second run is kept: ")[1].strip())
    assert (kept / "results.json").is_file()


@pytest.mark.slow
def test_other_weights_are_told(done: Path, tmp_path: Path) -> None:
    plan, directory = opened(done)
    run = directory.run(plan.cells[0])
    again = type(run)(tmp_path / "again")
    shutil.copytree(run.path, again.path)
    assert list(differences(run, again)) == []
    weights = bytearray((again.model / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (again.model / "weights.safetensors").write_bytes(weights)
    (line,) = differences(run, again)
    assert line.startswith("model/weights.safetensors: sha256 ")
    assert list(differences(run, again, weights=False)) == []


def test_without_a_finished_run_there_is_nothing_to_verify(tmp_path: Path) -> None:
    plan, directory = opened(tmp_path)
    directory.prepare(plan)
    with pytest.raises(UserError, match="no run is finished yet"):
        verify(plan, directory, lambda line: None)
    process = ablate(tmp_path)
    assert process.returncode == 2
    assert "no run is finished yet" in process.stderr
    assert "Traceback" not in process.stderr


def test_a_run_of_a_device_that_is_not_here_is_not_compared(tmp_path: Path) -> None:
    plan, directory = opened(tmp_path)
    directory.prepare(plan)
    run = directory.run(plan.cells[0])
    run.create(plan.cells[0].recipe)
    run.update(status="done", hardware={"device": "NVIDIA Something"})
    run.results.write_text("{}")
    assert [found.path for found in finished(plan, directory)] == [run.path]
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="NVIDIA Something, and no CUDA device is here"):
            verify(plan, directory, lambda line: None)
