"""A long job, tiny, killed again and again: does it end with the bits of the one that was left alone? ``python tests/integration/lasting.py --help``

Each command runs in a process that is forked off this one, which has imported what a run needs and computed nothing, so that fifty runs take minutes.
A process is killed (SIGKILL) at a random operation on its run directory, or at a random moment; of two processes both are. Then the run is resumed,
and perhaps killed again, until it ends. Weights, figures, and the rows of metrics.jsonl but for times have to be equal to the last bit.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
RECIPE = ROOT / "tests" / "training" / "lasting.toml"
#: Columns of metrics.jsonl that differ from one run to the next.
TIMES = {"time", "samples_per_second"}
#: How often one run is killed at most before it is left to end.
KILLS = 3
#: What a run imports, and nothing that computes.
IMPORTED = (
    "ibllm_cli.run", "ibllm_report.listener", "matplotlib.figure", "sacrebleu", "tensorboardX", "torch.distributed", "ibllm.api", "ibllm_core.training.job",
)  # fmt: skip

Mapped = Mapping[str, Any]


def fork(words: Sequence[str], log: Path, moment: str = "", folder: Path | None = None, **environment: str) -> int:
    """``ibllm WORD …`` in a process of its own, struck at a moment (`tests.struck`); its number. What it says goes to the end of `log`."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        os.setsid()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(handle, stream)
        os.environ |= environment
        sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(stream, "w", closefd=False), write_through=True) for stream in (1, 2))
        sys.argv = ["ibllm", *words]
        ended: Callable[[], object] = int
        if moment and folder is not None:
            from tests.struck import arm

            ended = arm(moment, folder)
        from ibllm_cli.main import main

        code = main(words)
        ended()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        os._exit(code)


def prepare() -> None:
    """Imports what a run needs, and computes nothing: a forked process of torch must not have begun to."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    for name in IMPORTED:
        importlib.import_module(name)


def wait(process: int, seconds: float = 300) -> int:
    """The exit code; negative for the signal that ended it, -SIGXCPU for one that was ended after so many seconds."""
    until = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            end(process)
            return -int(signal.SIGXCPU)
        time.sleep(0.02)


def end(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process, 0)


def launched(count: int) -> list[dict[str, str]]:
    """What torchrun would put into the environment of each of `count` processes; nothing for one."""
    if count == 1:
        return [{}]
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def state(run: Path) -> dict[str, Any]:
    """What has to be equal to the bit: weights, figures, rows."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "weights": (run / "model" / "weights.safetensors").read_bytes(),
        "results": json.loads((run / "results.json").read_text(encoding="utf-8")),
        "rows": [{name: value for name, value in row.items() if name not in TIMES} for row in rows],
        "stages": [(one["name"], one["done"], one["best_step"], one["note"]) for one in record(run)["stages"]],
        "left": sorted(str(path.relative_to(run)) for path in run.rglob(".*.partial")),
    }


def record(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return found


def differences(found: Mapped, expected: Mapped) -> list[str]:
    return [name for name in expected if found[name] != expected[name]]


class Lasting:
    """Runs of one recipe in a folder, by so many processes."""

    def __init__(self, folder: Path, recipe: Path = RECIPE, sets: Iterable[str] = (), count: int = 1) -> None:
        self.folder, self.recipe, self.count, self.log = folder, recipe, count, folder / "log.txt"
        self.sets = [word for key in sets for word in ("--set", key)]

    def words(self, run: Path) -> list[str]:
        """Begins the run, or goes on with it, once there is one."""
        if (run / "recipe.toml").exists():
            return ["run", str(run), "--resume"]
        return ["run", str(self.recipe), "--run-dir", str(run), *self.sets]

    def play(self, run: Path, moment: str = "", after: float | None = None) -> list[int]:
        """Plays the run until it ends, is struck at a moment, or killed after some seconds; the exit codes of its processes."""
        words = self.words(run)
        processes = [fork(words, self.log, moment, run, **environment) for environment in launched(self.count)]
        if after is not None:
            time.sleep(after)
        if after is not None or (moment.startswith("KILL") and self.count > 1):
            if after is None:  # the first one that is struck takes the others with it, as where a machine goes down
                while not any(os.waitid(os.P_PID, one, os.WEXITED | os.WNOHANG | os.WNOWAIT) for one in processes):
                    time.sleep(0.02)
            for one in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
        return [wait(one) for one in processes]

    def finish(self, run: Path) -> None:
        codes = self.play(run)
        assert not any(codes), f"{codes}: {self.said()}"

    def said(self) -> str:
        """The end of what the runs said."""
        return self.log.read_text(encoding="utf-8")[-3000:]


def kills(lasting: Lasting, rounds: int, seed: int, say: Callable[[str], None] = print) -> list[str]:
    """Kills a run at random in each round, up to `KILLS` times, and lets it end; what was otherwise than in the unbroken run."""
    chance, whole = random.Random(seed), lasting.folder / "unbroken"
    begun = time.monotonic()
    lasting.finish(whole)
    seconds = time.monotonic() - begun
    counted = lasting.folder / "counted"
    assert lasting.play(counted, "count") == [0] * lasting.count, lasting.said()
    touches = len(Path(f"{counted}.touches").read_text(encoding="utf-8").splitlines())
    expected, wrong = state(whole), []
    assert not differences(state(counted), expected), "two unbroken runs differ"
    say(f"the unbroken run took {seconds:.1f} s and {touches} operations on its files")
    for number in range(rounds):
        run, met = lasting.folder / f"run-{number:03}", []
        for _ in range(chance.randint(1, KILLS)):
            if chance.random() < 0.7:
                moment = f"KILL@touch:{chance.randint(1, touches)}"
                codes = lasting.play(run, moment)
            else:
                after = chance.uniform(0.1, seconds)
                moment, codes = f"after {after:.2f} s", lasting.play(run, after=after)
            met.append(f"{moment} {codes}")
            if not any(codes):
                break
        lasting.finish(run)
        if off := differences(state(run), expected):
            wrong.append(f"{run.name}: {', '.join(off)} differ after {'; '.join(met)}")
        say(f"{run.name}: {'; '.join(met)}: {'differs in ' + ', '.join(off) if off else 'the same bits'}")
        if not off:
            shutil.rmtree(run)
    return wrong


def refusals(lasting: Lasting, error: str, every: int, say: Callable[[str], None] = print) -> list[str]:
    """Refuses each of a run's operations on its files in turn (every n-th of them) and all after it; then there is room again, and the run goes on."""
    whole, counted = lasting.folder / "unbroken", lasting.folder / "counted"
    lasting.finish(whole)
    assert lasting.play(counted, "count") == [0], lasting.said()
    touches = Path(f"{counted}.touches").read_text(encoding="utf-8").splitlines()
    expected, wrong = state(whole), []
    say(f"{len(touches)} operations on its files")
    for number in range(1, len(touches) + 1, every):
        run, lasting.log = lasting.folder / f"run-{number:03}", lasting.folder / f"log-{number:03}.txt"
        (code,) = lasting.play(run, f"{error}+@touch:{number}")
        said, what = lasting.said(), touches[number - 1].replace(str(counted), "RUN")
        problems = [] if code in (0, 2) else [f"exit code {code}"]
        problems += [word for word in ("Traceback", "internal error") if word in said]
        if code == 2 and not any(line.startswith("error: ") and str(run) in line for line in said.splitlines()):
            problems.append("no place is named")
        problems += ["half-written files are left"] * (error == "ENOSPC" and any(run.rglob(".*.partial")))
        lasting.finish(run)
        problems += [f"{name} differ" for name in differences(state(run), expected)]
        if problems:
            wrong.append(f"{number} ({what}): {'; '.join(problems)}: {said[-600:]}")
        say(f"{number:4} {what}: exit code {code}{': ' + '; '.join(problems) if problems else ''}")
        if not problems:
            shutil.rmtree(run)
            lasting.log.unlink()
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "refusals"])
    parser.add_argument("--rounds", type=int, default=50, help="of kills")
    parser.add_argument("--processes", type=int, default=1, help="of kills: each run has so many")
    parser.add_argument("--seed", type=int, default=0, help="of kills")
    parser.add_argument("--error", default="ENOSPC", help="of refusals: ENOSPC, ESTALE, EROFS, …")
    parser.add_argument("--every", type=int, default=1, help="of refusals: only each n-th operation")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    prepare()
    with tempfile.TemporaryDirectory(prefix="lasting-") as folder:
        lasting = Lasting(Path(folder), sets=given.sets, count=given.processes)
        wrong = kills(lasting, given.rounds, given.seed) if given.what == "kills" else refusals(lasting, given.error, given.every)
    print("\n".join(wrong) or "nothing was lost")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
