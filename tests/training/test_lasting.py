"""A long job is killed, cut off from its terminal, told to stop by a scheduler, moved: it goes on, and ends with the bits of the one that was left alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ibllm_cli.interrupts import on_interrupt
from ibllm_cli.main import main

from ibllm_core.model.stage import StageTrainer
from ibllm_core.training import checkpoints
from tests import processes
from tests.struck import __file__ as STRUCK

pytestmark = pytest.mark.slow

LASTING = Path(__file__).with_name("lasting.toml")
TIMES = {"time", "samples_per_second"}


@pytest.fixture(autouse=True, scope="module")
def _unrehearsed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IBLLM_BLOCK", "rehearsal,report")
        yield


def begin(run: Path, *more: str) -> list[str]:
    return ["run", str(LASTING), "--run-dir", str(run), *more]


def go_on(run: Path) -> list[str]:
    return ["run", str(run), "--resume"]


def struck(moment: str, run: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """A command that is killed, or refused something, at a moment (`tests.struck`)."""
    return subprocess.run(processes.command(STRUCK, moment, run, *words), capture_output=True, text=True, check=False, timeout=300)


def end_of(run: Path) -> dict[str, Any]:
    """What has to be equal to the bit."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "weights": (run / "model" / "weights.safetensors").read_bytes(),
        "results": json.loads((run / "results.json").read_text(encoding="utf-8")),
        "rows": [{name: value for name, value in row.items() if name not in TIMES} for row in rows],
        "left": list(run.rglob(".*.partial")),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, _unrehearsed: None) -> Path:
    """The run that was left alone."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert main(begin(run)) == 0
    return run


def test_killed_three_times_it_ends_with_the_same_bits(whole: Path, tmp_path: Path) -> None:
    """In the midst of a checkpoint's writing, of a validation, and where the model folder is about to get its name."""
    run, words = tmp_path / "run", begin(tmp_path / "run")
    for moment in (
        "KILL@ibllm_core.training.checkpoints.write_weights:8",
        "KILL@ibllm_core.training.loop._held_out_loss:2",
        "KILL@rename/model:1",
    ):
        done = struck(moment, run, words)
        assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
        words = go_on(run)
    assert list(run.rglob(".*.partial")), "it was killed in the midst of writing"
    assert main(["runs", str(run)]) == 0
    assert main(words) == 0
    assert end_of(run) == end_of(whole)


def test_a_finished_run_that_is_killed_while_it_is_finished_again(whole: Path, tmp_path: Path) -> None:
    """The model folder is replaced: killed in between it is not there, and comes again."""
    run = shutil.copytree(whole, tmp_path / "run")
    assert struck("KILL@rename/model:1", run, go_on(run)).returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    assert main(go_on(run)) == 0
    assert end_of(run) == end_of(whole)


@pytest.mark.parametrize("error", ["ENOSPC", "ESTALE"])
def test_what_is_refused_in_the_midst_is_named_and_the_run_goes_on(whole: Path, tmp_path: Path, error: str) -> None:
    """From the second checkpoint on, as on a full disk or where a network file system has lost its server; then there is room again."""
    run = tmp_path / "run"
    done = struck(f"{error}+@touch:110", run, begin(run))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert f"error: {run}" in done.stderr
    assert {"ENOSPC": "No space left on device; make room", "ESTALE": "Stale file handle; mount"}[error] in done.stderr
    assert main(go_on(run)) == 0
    assert end_of(run) == end_of(whole)


def test_a_scheduler_a_jump_of_the_clock_and_another_place(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM, twice as schedulers send it; then the folder is moved, and its files are from tomorrow; then the clock jumps by a day while it trains."""
    run, moved, clock, real = tmp_path / "run", tmp_path / "moved", time.time, StageTrainer.iterate

    def iterate(self: StageTrainer, micro: Any) -> None:
        real(self, micro)
        if run.exists() and self.stage.name == "image":
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        elif moved.exists():
            monkeypatch.setattr(time, "time", lambda: clock() + 24 * 3600)

    monkeypatch.setattr(StageTrainer, "iterate", iterate)
    assert main(begin(run)) == 130
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["status"] == "interrupted"
    assert checkpoints.all_in(run / "checkpoints")[0].name == "step-0000004"
    run.rename(moved)
    for path in (*moved.rglob("*"), moved):
        os.utime(path, (clock() + 24 * 3600,) * 2)
    assert main(go_on(moved)) == 0
    assert end_of(moved) == end_of(whole)
    timings = json.loads((moved / "run.json").read_text(encoding="utf-8"))["timings"]
    assert all(0 <= seconds < 600 for seconds in timings.values()), "a day is nobody's time"


def test_only_ctrl_c_insists() -> None:
    """Schedulers and shells send the other signals several times."""
    asked = list[int]()
    # The tests themselves may have been started by nohup.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with on_interrupt(lambda: asked.append(1)):
            for number, count in ((signal.SIGHUP, 1), (signal.SIGTERM, 1), (signal.SIGHUP, 1), (signal.SIGINT, 2), (signal.SIGINT, 3)):
                os.kill(os.getpid(), number)
                assert len(asked) == count
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with on_interrupt(lambda: asked.append(1)):
            os.kill(os.getpid(), signal.SIGHUP)
        assert len(asked) == 3, "nohup is heeded"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_one_flipped_byte_in_any_file_of_the_newest_checkpoint_is_found(whole: Path, tmp_path: Path) -> None:
    """The older one is taken, and it is said why; nothing of it is lost."""
    folder = shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints")
    newest, older = checkpoints.all_in(folder)[:2]
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    assert {"state.json", "hashes.json", "weights.safetensors", "average.safetensors"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        for place in {0, len(content) // 3, len(content) - 2}:
            path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            found, passed = checkpoints.newest(folder)
            assert found is not None
            assert found.state["global_step"] == int(older.name.split("-")[1])
            assert list(passed) == [newest.name]
            assert path.name in passed[newest.name] or path.name == "hashes.json"
        path.write_bytes(content)
    found, passed = checkpoints.newest(folder)
    assert not passed


def test_other_words_than_the_run_was_begun_with_are_refused(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They lie beside the checkpoints: one flipped byte gives another word, or no JSON."""
    run = shutil.copytree(whole, tmp_path / "run")
    file = run / "checkpoints" / "tokenizer-text.json"
    content = file.read_text(encoding="utf-8")
    for damaged in (content.replace("circle", "cjrcle", 1), content[:-2]):
        assert damaged != content
        file.write_text(damaged, encoding="utf-8")
        assert main(go_on(run)) == 2
        said = capsys.readouterr().err
        assert "tokenizer-text.json is not as it was written" in said or "tokenizers.text" in said
        assert "Traceback" not in said and "internal" not in said
    file.write_text(content, encoding="utf-8")
    assert main(go_on(run)) == 0


def test_a_run_that_was_killed_before_it_was_one_begins(whole: Path, tmp_path: Path) -> None:
    """Before its recipe is there the same command begins it; before its record is there, and with it any checkpoint, it is resumed."""
    run = tmp_path / "run"
    assert struck("KILL@rename/recipe.toml:1", run, begin(run)).returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    assert struck("KILL@rename/run.json:1", run, begin(run)).returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    assert (run / "recipe.toml").exists() and not (run / "run.json").exists()
    assert main(go_on(run)) == 0
    assert end_of(run) == end_of(whole)


def test_what_was_turned_by_hand_outlives_a_kill(tmp_path: Path) -> None:
    """Turned after the run was killed, killed again after it has taken it up: it ends as one that was begun with what was turned, and left alone."""
    run, anew = tmp_path / "run", tmp_path / "anew"
    assert struck("KILL@ibllm_core.training.checkpoints.write_weights:8", run, begin(run)).returncode in (-9, 128 + 9)
    assert main(["knob", str(run), "training.clip=0.5", "--at", "8"]) == 0
    assert struck("KILL@rename/results.json:1", run, go_on(run)).returncode in (-9, 128 + 9)
    assert main(go_on(run)) == 0
    assert main(begin(anew, "--knobs", str(run))) == 0
    found, expected = end_of(run), end_of(anew)
    for row in (*found["rows"], *expected["rows"]):
        row.pop("number/training.clip", None)  # the first one did not know yet that it would be turned
    assert found == expected
    assert json.loads((run / "knobs.json").read_text(encoding="utf-8"))
