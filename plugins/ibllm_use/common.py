"""What the commands that use a trained model share: options, opening, progress, texts and lines of results. Torch-free to import.

A command is declared with ``run_argument``, ``seed_option``, ``device_option``, ``json_option``, ``from_option(…)``, ``output_option(…)`` and
``overwrite_option``; its function opens the model by ``using`` and says its results by ``tell``.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ibllm_cli.completion import RUN
from ibllm_cli.terminal import shown
from ibllm_core.errors import Notice, UserError

if TYPE_CHECKING:
    from ibllm.trained import Trained

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

#: Items that are computed between two looks at the progress.
CHUNK = 32
#: Seconds between lines of progress where there is no terminal.
QUIET = 10.0
#: Of a text that is said again in the terminal; --json has it whole.
CHARACTERS = 200


def run_argument(function: F) -> F:
    """The argument RUN: `run`, a path."""
    return click.argument("run", type=RUN)(function)


def seed_option(function: F) -> F:
    return click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of what is drawn by chance.")(function)


def device_option(function: F) -> F:
    help = "Where to compute, e.g. cpu or cuda:1; by default where it was trained, if there is such a device here."
    return click.option("--device", shell_complete=_devices, help=help)(function)


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead, and nothing else.")(function)


def from_option(what: str) -> Callable[[F], F]:
    """``--from FILE``: `file`, a path or None; `what` says what its lines are."""
    kind = click.Path(path_type=Path, allow_dash=True)
    return click.option("--from", "file", type=kind, metavar="FILE", help=f"{what}; - reads standard input.")


def output_option(what: str) -> Callable[[F], F]:
    """``-o``: `output`, a path or None; `what` says what is written."""
    return click.option("-o", "--output", type=click.Path(path_type=Path), metavar="PATH", help=what)


def overwrite_option(function: F) -> F:
    return click.option("--overwrite", is_flag=True, help="Write over files that are there already; without it they are refused.")(function)


def common_options(function: F) -> F:
    """What commands that draw or write have alike: ``--seed``, ``--device``, ``--json``, ``--overwrite``."""
    for option in (overwrite_option, json_option, device_option, seed_option):
        function = option(function)
    return function


def examples(*lines: str) -> str:
    """The end of a command's help: what one types, a line each."""
    return "\n".join(["\b", "Examples:", *(f"  $ {line}" for line in lines)])


def _devices(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of devices, without asking which are here: that would import torch."""
    return [name for name in ("auto", "cpu", "cuda", "mps", "xpu", "xla") if name.startswith(incomplete)]


@contextmanager
def using(run: Path, device: str | None) -> Iterator[Trained]:
    """A trained model, opened. What components print goes to standard error; an error of a component's names it.

    Args:
        run: a run directory, its model folder, or a folder in Hugging Face's layout.

    Raises:
        UserError: none of these, or not trained yet.
    """
    import ibllm
    from ibllm_core.host.attribution import naming, stdout_to_stderr

    with stdout_to_stderr():
        opened = ibllm.open(run, device=device)
        with naming(opened.recipe):
            yield opened


def texts_from(texts: Sequence[str], file: Path | None, what: str = "text") -> list[str]:
    """The texts of a command: its arguments, then the lines of a file. The argument ``-`` and the file ``-`` are standard input.

    Empty lines among those of a file are passed over, and told. Raises `UserError` for an empty argument, where there is no text, or a file that cannot be
    read as text.
    """
    found = list[str]()
    for number, text in enumerate(texts, 1):
        if text == "-":
            found += _filled(Path("-"), what)
        elif says_nothing(text):
            which = f"the {what}" if len(texts) == 1 else f"{what} {number} of {len(texts)}"
            raise UserError(f"{which} is empty: expected words")
        else:
            found.append(text.strip())
    found += [] if file is None else _filled(file, what)
    if not found:
        raise UserError(f"no {what}: give it as an argument, by --from FILE (one a line), or by - from standard input")
    return found


def says_nothing(text: str) -> bool:
    """True where nothing of a text can be seen."""
    return not any(character.isprintable() and not character.isspace() for character in text)


def _filled(file: Path, what: str) -> list[str]:
    """The lines of a file that say something; those between them that do not are counted and told."""
    lines = [line.strip() for line in lines_of(file)]
    while lines and says_nothing(lines[-1]):
        lines.pop()
    found = [line for line in lines if not says_nothing(line)]
    if empty := len(lines) - len(found):
        name = "standard input" if str(file) == "-" else str(file)
        first = next(number for number, line in enumerate(lines, 1) if says_nothing(line))
        note(f"{name}: {empty} empty {'line is' if empty == 1 else 'lines are'} no {what} and passed over, the first is line {first}")
    return found


def lines_of(file: Path) -> list[str]:
    """The lines of a file, or with ``-`` of standard input. Raises `UserError` where it is not UTF-8."""
    try:
        raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{file}:{line}: byte 0x{error.object[error.start]:02x} is not UTF-8; expected a text, one a line") from None


def in_chunks(items: Sequence[T], doing: str, size: int = CHUNK) -> Iterator[Sequence[T]]:
    """The items in chunks, with the progress on standard error: a bar on a terminal, elsewhere a line now and then."""
    with progress(doing, len(items)) as advance:
        for start in range(0, len(items), size):
            chunk = items[start : start + size]
            yield chunk
            advance(len(chunk))


def of_texts(model: Trained, texts: Sequence[str], doing: str, compute: Callable[[list[str]], Iterable[T]], each: int = 1) -> list[T]:
    """What `compute` gives for the texts, chunk by chunk with the progress told; `each` is how many results a text has.

    What the model cannot know of the texts, or leaves out of them, is told once for all and not again for every chunk.
    """
    for remark in model.remarks(texts):
        note(remark)
    found: list[T] = []
    for chunk in in_chunks(texts, doing, max(1, CHUNK // each)):
        with told_already(model, chunk):
            found += compute(list(chunk))
    return found


@contextmanager
def told_already(model: Trained, texts: Sequence[str], part: str = "text_encoder") -> Iterator[None]:
    """Within, what the model cannot know of these texts is not told again; all else that is warned of is told at the end."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Notice)
        yield
    told = model.remarks(texts, part)
    for warning in caught:
        if str(warning.message) not in told:
            warnings.warn(warning.message, warning.category, stacklevel=2)


@contextmanager
def progress(doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """A function that is told how many more are done. A single one shows nothing."""
    if total > 1 and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as screen:
            task = screen.add_task(shown(doing), total=total)
            yield lambda more: screen.update(task, advance=more)
        return
    done, said = 0, time.monotonic()

    def advance(more: int) -> None:
        nonlocal done, said
        done += more
        if time.monotonic() - said >= QUIET and done < total:
            said = time.monotonic()
            click.echo(f"{shown(doing)}: {done} of {total}", err=True)

    yield advance


@contextmanager
def working(doing: str) -> Iterator[None]:
    """For work whose length nobody knows: on a terminal something moves on standard error until it is done."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(shown(doing)):
        yield


def short(text: str) -> str:
    """A text that is said again: its first `CHARACTERS` characters, with a mark where it goes on."""
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}…"


def tell(result: Mapping[str, Any], rows: Sequence[Sequence[str]], as_json: bool, heads: Sequence[str] = ()) -> None:
    """The results on standard output: one JSON object, or below `heads` a line a row: tabs between its cells, on a terminal aligned."""
    if as_json:
        click.echo(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False))
        return
    cells = [[shown(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console(highlight=False)
        for text, style in _laid_out(cells, heads, console.width):
            console.print(text, style=style, markup=False, emoji=False, soft_wrap=True)
    else:
        for row in ([heads] if heads else []) + cells:
            click.echo("\t".join(row))


def _laid_out(rows: Sequence[Sequence[str]], heads: Sequence[str], width: int) -> Iterator[tuple[str, str]]:
    """Lines of a terminal with their style: columns where all rows fit, else each row's first cell with the others below it."""
    from rich.cells import cell_len

    table = [heads, *rows] if heads else rows
    widths = [max(map(cell_len, column)) for column in itertools.zip_longest(*table, fillvalue="")]
    if sum(widths) + 2 * len(widths) - 2 <= width:
        for number, row in enumerate(table):
            line = "  ".join(cell + " " * (room - cell_len(cell)) for cell, room in zip(row, widths, strict=False))
            yield line.rstrip(), "bold" if heads and not number else ""
        return
    for row in rows:
        yield row[0], "bold"
        for cell, head in itertools.zip_longest(row[1:], heads[1 : len(row)], fillvalue=""):
            yield f"  {head}: {cell}" if head else f"  {cell}", ""


def note(text: str) -> None:
    """What a user should know and nothing stops for."""
    warnings.warn(Notice(text), stacklevel=3)


def require_new(paths: Sequence[Path], overwrite: bool) -> None:
    """Raises `UserError` for the first file that is there already, unless it may be written over, or where a folder stands in its place."""
    there = [path for path in paths if path.exists() or path.is_symlink()]
    if folders := [path for path in there if path.is_dir()]:
        raise UserError(f"{folders[0]} is a folder; expected the name of a file")
    if there and not overwrite:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise UserError(f"{there[0]}{more} is there already; choose another name, or write over it with --overwrite")


def require_new_folder(folder: Path, overwrite: bool, mark: str) -> None:
    """Raises `UserError` for a folder that holds something, unless it may be written over and `mark`, a file's name, says that it is one of ours."""
    if not (folder.exists() or folder.is_symlink()) or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / mark).is_file():
        raise UserError(f"{folder} holds something else (no {mark}) and is left as it is; choose another place")
    if not overwrite:
        raise UserError(f"{folder} is there already; choose another place, or write over it with --overwrite")
