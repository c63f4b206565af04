"""What a study leaves behind for people: the page, the tables, and a few lines for the terminal. Torch-free."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

from ibllm_core.errors import UserError, system_error
from ibllm_core.runs.directory import write_text

from . import tables, wording
from .analysis import Analysis
from .directory import StudyDirectory
from .findings import Findings, from_plan
from .plan import Plan


def write_outputs(plan: Plan, directory: StudyDirectory) -> list[str]:
    """Writes ``study.html`` and the tables (``effects.csv`` among them for a factorial design) from the runs there are; gives lines to print."""
    return write_findings(from_plan(plan, directory), directory.path)


def write_findings(findings: Findings, folder: Path) -> list[str]:
    """The same from findings. Raises `UserError` where the folder cannot be written."""
    from .page import page

    analysis = Analysis(findings)
    made: dict[str, Callable[[Analysis], str]] = {
        "study.html": page,
        "table.md": tables.markdown,
        "table.tex": tables.latex,
        "table.csv": tables.long_csv,
        "runs.csv": tables.runs_csv,
    }
    if findings.factorial is not None:
        made["effects.csv"] = tables.effects_csv
    texts = {name: make(analysis) for name, make in made.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_text(folder / name, text)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {system_error(error) or error}") from error
    return [*summary(analysis), *(f"{'written' if number == 0 else '       '}  {folder / name}" for number, name in enumerate(texts))]


def summary(analysis: Analysis) -> list[str]:
    """The primary figure's table and its notes, as lines."""
    from rich.console import Console

    from .terminal import tables_of

    out = io.StringIO()
    # The width is that of the terminal (or of COLUMNS); where there is neither, nothing says how wide a line may be.
    width = shutil.get_terminal_size((150, 24)).columns
    for table in tables_of(analysis, width):
        Console(file=out, width=width).print(table)
    return [*out.getvalue().rstrip("\n").splitlines(), wording.verdict(analysis), *wording.notes(analysis)]
