"""The pictures of the documentation, and what its commands print: made by the commands that stand beside them.

``python docs/_ext/pictures.py --write RUN`` walks every page that shows something of ``docs/pictures/``. It runs the page's commands that use a trained
model, on the run directory RUN in place of ``runs/joint``, and keeps the files that the page shows: ``pictures/NAME.png`` is what a command wrote to
``NAME.png``, and ``pictures/NAME.txt`` is what the console block above it prints.
"""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "pictures"
#: Commands that need nothing but a trained model and what the page has written so far.
USING = ("generate", "caption", "score", "roundtrip", "search", "walk", "ask")
#: Columns of the terminal that the commands print to.
WIDTH = 100
_BLOCK = re.compile(
    r"^```console\n(?P<commands>.*?)^```$|^```\{literalinclude\} \S*pictures/(?P<text>\S+)$|\]\(\S*?pictures/(?P<picture>[\w.-]+)\)",
    re.M | re.S,
)


@attrs.frozen
class Shown:
    """What a page shows: the file in `docs/pictures/`, and the commands that make it: those of one console block, and of the blocks before it."""

    name: str
    before: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def pages() -> list[Path]:
    """The pages that show pictures made by commands."""
    found = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]
    return [page for page in found if any(shown(page.read_text(encoding="utf-8")))]


def shown(text: str) -> Iterator[Shown]:
    """Everything that a page shows, in its order. A picture is made by the first block that names it, above or below; a text by the block above it."""
    blocks: list[tuple[str, ...]] = []
    places: list[tuple[str, int]] = []
    for found in _BLOCK.finditer(text):
        if found["commands"] is not None:
            lines = [line[2:] for line in found["commands"].splitlines() if line.startswith("$ ")]
            blocks.append(tuple(line for line in lines if _uses(shlex.split(line, comments=True))))
        else:
            places.append((found["text"] or found["picture"], len(blocks) - 1))
    for name, above in places:
        naming = (k for k, block in enumerate(blocks) if any(name in shlex.split(line) for line in block))
        k = above if name.endswith(".txt") else next(naming, -1)
        yield Shown(name, tuple(line for block in blocks[:k] for line in block), blocks[k]) if k >= 0 else Shown(name)


def _uses(words: Sequence[str]) -> bool:
    return words[:1] == ["ibllm"] and words[1:2] != [] and words[1] in USING


def make(page: Path, run: Path) -> list[Path]:
    """Runs a page's commands and gives the files that it shows, written."""
    FOLDER.mkdir(exist_ok=True)
    written: list[Path] = []
    said: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "runs").mkdir()
        (folder / "runs" / "joint").symlink_to(run.resolve())
        for one in shown(page.read_text(encoding="utf-8")):
            for command in (*one.before, *one.beside):
                if command not in said:
                    said[command] = _run(command, folder)
            place = FOLDER / one.name
            if one.name.endswith(".txt"):
                place.write_text("".join(f"$ {command}\n{said[command]}" for command in one.beside), encoding="utf-8", newline="\n")
            else:
                shutil.copy(folder / one.name, place)
            written.append(place)
    return written


def _run(command: str, folder: Path) -> str:
    """What a command prints on a terminal, without colours."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "xterm", "IBLLM_CACHE": str(folder / ".cache")}
    words = [sys.executable, "-m", "ibllm", *shlex.split(command, comments=True)[1:]]
    with subprocess.Popen(words, cwd=folder, env=environment, stdout=theirs, stderr=subprocess.PIPE, text=True) as process:
        os.close(theirs)
        printed = b""
        try:
            while part := os.read(ours, 4096):
                printed += part
        except OSError:  # the other end is closed
            pass
        error = process.stderr.read() if process.stderr else ""
    os.close(ours)
    if process.returncode:
        raise SystemExit(f"$ {command}\n{error}")
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", printed.decode().replace("\r\n", "\n"))


def unmade(page: Path) -> list[str]:
    """What a page shows that is not there, or that none of its commands makes."""
    return [one.name for one in shown(page.read_text(encoding="utf-8")) if not one.beside or not (FOLDER / one.name).is_file()]


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "--write":
        sys.exit(textwrap.dedent("usage: python docs/_ext/pictures.py --write RUN"))
    for page in pages():
        for path in make(page, Path(sys.argv[2])):
            print(path.relative_to(ROOT))
