"""``ibllm ablate --verify``: a finished run, chosen at random, once more from scratch."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ibllm.launching import LOCAL, Place, make_launcher
from ibllm_core.errors import UserError
from ibllm_core.runs.directory import RunDirectory, write_json

from .checking import choose_devices
from .directory import StudyDirectory
from .plan import Plan
from .runner import LOOK, why_ended, worker_task

#: What of a run's record may explain a difference. Memory does not.
RECORDED = ("versions", "hardware", "provenance", "sources")
IRRELEVANT = ("hardware.memory_gib", "hardware.cores")
WEIGHTS = "weights.safetensors"


class Chooser(Protocol):
    """What `random.Random` and the ``secrets`` module have in common."""

    def choice(self, seq: Sequence[RunDirectory], /) -> RunDirectory: ...


def verify(plan: Plan, directory: StudyDirectory, say: Callable[[str], None], rng: Chooser | None = None) -> bool:
    """Runs a finished run of the study again, without shared stages or checkpoints, and compares what came of it bit for bit.

    Args:
        say: called with what is being done, and what was equal or differs.
        rng: what chooses the run; the operating system's randomness by default.

    Returns:
        True where all figures and, on the CPU, the weights are equal. Otherwise the second run is kept and named.

    Raises:
        UserError: no run is finished, or it was run on a device that is not here.
    """
    run = (rng or secrets.SystemRandom()).choice(finished(plan, directory))
    device = _device(run)
    say(f"chosen at random: {run.path.name}; running it again on {device}, from scratch")
    parent = directory / "verify"
    parent.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{run.path.name}-", dir=parent))
    keep = False
    try:
        failure = _again(run, folder, device, plan.study.table.threads)
        again = RunDirectory(folder / "run")
        if failure:
            keep = True
            say(f"it failed this time: {failure}  (log: {folder / 'log.txt'})")
            return False
        differs = list(differences(run, again, weights=device == "cpu"))
        for line in (*_surroundings(run, again), *_verdict(run, differs, device)):
            say(line)
        keep = bool(differs)
        if keep:
            say(f"the second run is kept: {again.path}")
        return not differs
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
            # Another verification may be under way there.
            if not any(parent.iterdir()):
                parent.rmdir()


def finished(plan: Plan, directory: StudyDirectory) -> list[RunDirectory]:
    """The study's finished runs; those of its earlier versions (or of other package versions) where it has no others. Raises `UserError`."""
    ours = [cell.id for cell in plan.cells]
    for names in (ours, directory.others(plan)):
        runs = [RunDirectory(directory / "runs" / name) for name in names]
        found = [run for run in runs if run.results.is_file() and run.recipe.is_file() and run.info().get("status") == "done"]
        if found:
            return found
    raise UserError(f"{directory.path}: no run is finished yet, so there is nothing to verify")


def differences(run: RunDirectory, again: RunDirectory, weights: bool = True) -> Iterator[str]:
    """A line for each figure that is not the same to the last bit, and for other weights."""
    ours, theirs = _figures(run), _figures(again)
    for name in dict.fromkeys([*ours, *theirs]):
        before, after = (repr(figures.get(name, "missing")) for figures in (ours, theirs))
        if before != after:
            yield f"{name}: {before} in the study, {after} now"
    if weights:
        files = [found.model / WEIGHTS for found in (run, again)]
        if all(file.is_file() for file in files) and _hash(files[0]) != _hash(files[1]):
            yield f"model/{WEIGHTS}: sha256 {_hash(files[0])[:16]}… in the study, {_hash(files[1])[:16]}… now"


def _again(run: RunDirectory, folder: Path, device: str, threads: int) -> str:
    """Runs the recipe in `folder` as the study's workers do; why it failed, or nothing."""
    (folder / "locks").mkdir()
    task = folder / "task.json"
    write_json(
        task,
        {
            "recipe": str(run.recipe),
            "run": str(folder / "run"),
            "shelf": str(folder / "shared"),
            "locks": str(folder / "locks"),
            "prefixes": [],
            "command": str(run.info().get("command", "")),
            "sources": None,
            "data": None,
        },
    )
    launcher = make_launcher(LOCAL, (), Place(folder=folder, jobs=1, devices=(device,), threads=threads))
    try:
        launcher.start(worker_task("run", task, folder / "log.txt", threads))
        while not (ended := launcher.ended()):
            launcher.wait(LOOK)
    finally:
        launcher.close()
    code = ended["run"].code
    return why_ended(code, folder / "log.txt") if code else ""


def _device(run: RunDirectory) -> str:
    """Where a run was run, as far as this machine has it."""
    there = str(run.info().get("hardware", {}).get("device", "cpu"))
    if there == "cpu":
        return "cpu"
    here = choose_devices("auto")[0]
    if here == "cpu":
        raise UserError(f"{run.path.name} was run on {there}, and no CUDA device is here: its figures cannot be compared on a CPU")
    return here


def _surroundings(run: RunDirectory, again: RunDirectory) -> Iterator[str]:
    """What is otherwise than when the study was run: it may explain a difference."""
    before, after = (dict(_flat({name: found.info().get(name) for name in RECORDED})) for found in (run, again))
    names = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name) and name not in IRRELEVANT]
    if names:
        yield "not as it was when the study was run, which may explain a difference:"
        yield from (f"  {name}: {before.get(name, 'missing')} then, {after.get(name, 'missing')} now" for name in names)


def _verdict(run: RunDirectory, differs: Sequence[str], device: str) -> Iterator[str]:
    count = len(_figures(run))
    if device != "cpu":
        yield f"on {device} equal bits are not promised: kernels may add in another order"
    if not differs:
        weights = device == "cpu" and (run.model / WEIGHTS).is_file()
        yield f"verified: all {count} figures{' and the weights' if weights else ''} of {run.path.name} are equal, bit for bit"
        return
    yield f"{len(differs)} of {count + 1 if device == 'cpu' else count} compared differ:"
    yield from (f"  {line}" for line in differs)


def _figures(run: RunDirectory) -> dict[str, float]:
    try:
        found: dict[str, float] = json.loads(run.results.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{run.results} cannot be read: {error}") from error
    return found


def _flat(value: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, member in value.items():
            yield from _flat(member, f"{before}.{key}" if before else str(key))
    else:
        yield before, value


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
