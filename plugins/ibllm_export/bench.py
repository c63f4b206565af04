"""``ibllm bench``: what each form of a trained model costs, side by side."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import click

from ibllm_core.errors import Notice, UserError
from ibllm_use.common import examples, json_option, overwrite_option, require_new, run_argument, using

from .measuring import Arm, Plan, Row, compare, judged

ARMS = ("eager", "compiled", "bf16", "int8", "onnx", "onnx-int8")
EXAMPLES = examples(
    "ibllm bench runs/joint",
    "ibllm bench runs/joint --student runs/distilled --markdown bench.md",
    "ibllm bench runs/joint --arm eager --arm onnx --threads 1 --json",
)


@click.command(name="bench", epilog=EXAMPLES)
@run_argument
@click.option("--student", type=click.Path(path_type=Path), help="A run of a smaller model that was distilled from RUN's: two more arms.")
@click.option("--arm", "chosen", type=click.Choice(ARMS), multiple=True, help="Only these; may be repeated. By default all.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="In each of which every arm has its turn.")
@click.option(
    "--calls", type=click.IntRange(min=1), default=10, show_default=True, help="Items an arm draws, and captions, one by one in a round."
)
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Items at once where throughput is measured.")
@click.option("--threads", type=click.IntRange(min=1), help="Of an arm; by default as many as there are cores.")
@click.option("--items", type=click.IntRange(min=0), default=32, show_default=True, help="That figures are measured on; 0 for none.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds of an arm: for its start, for its turns together, and for its figures. What does not fit is told.",
)
@click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), help="Write the table as Markdown to this file.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the JSON goes; by default RUN/bench.json, which the model card quotes.",
)
@json_option
@overwrite_option
def command(
    run: Path,
    student: Path | None,
    chosen: tuple[str, ...],
    rounds: int,
    calls: int,
    batch: int,
    threads: int | None,
    items: int,
    budget: float,
    markdown: Path | None,
    output: Path | None,
    as_json: bool,
    overwrite: bool,
) -> None:
    """Compare the forms of RUN's trained model: eager, compiled, bfloat16, int8, ONNX, ONNX in int8, and a distilled student.

    Latency at batch 1 (p50, p99), throughput, memory, size, and the change in the run's own figures. Each form is a process of its own, and they take turns,
    round by round, so that what else the machine does meets all alike. What cannot be run is a row with its reason, and one that is no faster says so.
    """
    from ibllm_core.runs.directory import write_json, write_text

    from .bench_tables import as_markdown, as_rich

    require_new([file for file in (markdown, output) if file is not None], overwrite)
    with using(run, "cpu") as opened, _progress() as say, tempfile.TemporaryDirectory() as scratch:
        result = measure(opened, run, student, chosen or ARMS, Path(scratch), (rounds, calls, batch, threads, items, budget), say)
    try:
        write_json(output or run / "bench.json", {**result, "markdown": as_markdown(result)})
    except OSError as error:
        if output is not None:
            raise
        import warnings

        warnings.warn(
            Notice(f"{run / 'bench.json'} cannot be written ({error.strerror}): nothing is kept; -o FILE chooses another place"),
            stacklevel=1,
        )
    if markdown is not None:
        write_text(markdown, as_markdown(result))
    if as_json:
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    Console().print(as_rich(result))


def measure(
    opened: Any,
    run: Path,
    student: Path | None,
    chosen: Sequence[str],
    scratch: Path,
    how: tuple[int, int, int, int | None, int, float],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The comparison as plain JSON. Raises `UserError` where the run's data are not here."""
    from ibllm_core.model.compute import available_cores

    from .figures import real_items

    rounds, calls, batch, threads, items, budget = how
    samples = real_items(opened, 64)
    if samples is None or samples.captions is None or samples.images is None:
        raise UserError(f"{run}: its data, with captions and images, are needed to compare with real items")
    threads, split = threads or available_cores(), opened.recipe.evaluation.splits[0]
    plan = Plan(list(samples.captions), samples.images.tolist(), calls, rounds, batch, threads, budget)
    arms, models = [], {"": opened}
    if student is not None:
        import ibllm

        models["distilled"] = ibllm.open(student, device="cpu")
    for name in chosen:
        arms.append(_arm(name, name, run, opened, scratch, say))
    if student is not None:
        arms.append(Arm("distilled", student))
        arms += [_arm(f"distilled-{name}", name, student, models["distilled"], scratch, say) for name in ("onnx",) if name in chosen]
    rows = compare(arms, plan, split, items, say)
    for arm, row in zip(arms, rows, strict=True):
        if items and arm.folder is not None and row.draw is not None:
            say(f"figures of {arm.name}")
            row.figures = _figures(models["distilled" if arm.name.startswith("distilled") else ""], arm.folder, split, items)
    judged(rows)
    return {
        "run": str(run),
        "batch": batch,
        "threads": threads,
        "rounds": rounds,
        "calls": calls,
        "budget": budget,
        "split": split,
        "items": items,
        "processor": _processor(),
        "arms": [attrs.asdict(row) for row in rows],
    }


def _arm(name: str, kind: str, run: Path, opened: Any, scratch: Path, say: Callable[[str], None]) -> Arm:
    """An arm, its graphs exported where it is one of graphs."""
    import shutil

    from .export import export_onnx

    if kind == "compiled" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        return Arm(name, run, reason="torch.compile needs a C++ compiler, and there is none")
    if not kind.startswith("onnx"):
        return Arm(name, run)
    try:
        export_onnx(opened, scratch / name, kind.partition("-")[2], 0, lambda text: say(f"{name}: {text}"))
    except UserError as error:
        return Arm(name, run, reason=str(error))
    return Arm(name, run, scratch / name)


def _figures(opened: Any, folder: Path, split: str, items: int) -> dict[str, float]:
    from .figures import measured
    from .run_onnx import Exported
    from .substitute import Substitute

    return measured(opened, Substitute(opened.model, Exported(folder)), split, items)


def _processor() -> str:
    """What the machine computes with, as the system says."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    from rich.console import Console

    with Console(stderr=True).status("opening") as status:
        yield lambda text: status.update(text)


def rows_of(result: dict[str, Any]) -> list[Row]:
    """The rows of a comparison that was kept."""
    return [Row(**row) for row in result["arms"]]
