"""Makes the runs and the study that later versions are held to open, with the version of ibllm that is installed.

    OMP_NUM_THREADS=1 python tests/compatibility/make.py

Made once for each version that is to be kept readable, never again to make a test pass. Takes two minutes on one core. All paths are relative
to this folder, so that no file holds one of the machine's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from told import arithmetic, figures, last_losses, seen, versions, weights

HERE = Path(__file__).resolve().parent
COMMAND = [sys.executable, "-m", "ibllm"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "COLUMNS": "150"}
SETS = ["--set", "compute.device=cpu", "--set", "compute.threads=1"]
#: Where the run is stopped: 20 steps from its end, in the stage that trains every part and has both players' moments to restore.
STOP = 1140
#: What nothing needs in order to open, resume or report, and is large or names the machine.
JUNK = ("report.html", "tensorboard")


def ibllm(*arguments: str) -> str:
    """Runs a command to its end; its standard output."""
    done = subprocess.run([*COMMAND, *arguments], cwd=HERE, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def stop(run: Path) -> None:
    """Starts the run and presses Ctrl-C once it has logged step `STOP`."""
    command = [*COMMAND, "run", "tiny.toml", "--run-dir", run.name, *SETS]
    process = subprocess.Popen(command, cwd=HERE, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    log = run / "metrics.jsonl"
    while process.poll() is None and not (log.is_file() and f'{{"step": {STOP},' in log.read_text(encoding="utf-8")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def tidy(run: Path, checkpoints: int) -> None:
    """Takes the junk out of a run directory, and all but its newest checkpoints; the kernel's name is nobody's business."""
    for name in JUNK:
        remove(run / name)
    for path in sorted((run / "checkpoints").glob("step-*"), reverse=True)[checkpoints:]:
        remove(path)
    record = run / "run.json"
    record.write_text(
        re.sub(r'("platform": "Linux)-[^"]*?-(x86_64|aarch64)', r"\1-\2", record.read_text(encoding="utf-8")), encoding="utf-8"
    )


def commit() -> str:
    """The commit of the installed version's checkout."""
    import ibllm as package

    folder = Path(package.__file__).parent
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    finished, stopped, study, copy = (HERE / name for name in ("finished", "stopped", "study", "resumed"))
    for path in (finished, stopped, study, copy):
        remove(path)
    ibllm("run", "tiny.toml", "--run-dir", finished.name, *SETS)
    tidy(finished, 1)
    stop(stopped)
    tidy(stopped, 1)
    ibllm("ablate", "question.toml", "--study-dir", study.name, "--devices", "cpu", "--jobs", "1")
    for name in ("shared", "locks", "failures", "study.html"):
        remove(study / name)
    for run in (study / "runs").iterdir():
        if run.is_dir():
            tidy(run, 0)
            remove(run / "checkpoints")

    import ibllm as package

    shutil.copytree(stopped, copy)
    ibllm("run", copy.name, "--resume")
    runs = sorted(path.name for path in (study / "runs").iterdir() if path.is_dir())
    expected = {
        "versions": versions(),
        "commit": commit(),
        "arithmetic": arithmetic(),
        "finished": {"evaluate": figures(ibllm("evaluate", finished.name, "--json"))} | seen(package.open(finished)),
        "stopped": {
            "results": figures((copy / "results.json").read_text(encoding="utf-8")),
            "last": last_losses(copy),
            "weights": weights(copy),
        },
        "study": {"runs": runs, "diff": ibllm("diff", finished.name, f"{study.name}/runs/{runs[0]}").splitlines()},
    }
    remove(copy)
    (HERE / "expected.json").write_text(json.dumps(expected, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.chdir(HERE)
    main()
