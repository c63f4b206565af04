"""The tools that check the whole repository, one after the other in a process beside the tests, whose turn they do not take. ``beside.py FOLDER TEST …``."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: The test in tests/test_quality.py that waits for a tool → the command, in the repository; {} is a folder of its own.
TOOLS = {
    "test_style": ("ruff", "check", "--output-format", "concise"),
    "test_formatting": ("ruff", "format", "--check"),
    "test_boundaries": ("python", "tests/boundaries.py"),
    "test_types": ("mypy",),
    "test_documentation_builds_without_a_warning": (
        *("sphinx-build", "-q", "-W", "--keep-going", "-b", "html", "-d", "{}/doctrees", "docs", "{}/html"),
    ),
}
PATIENCE = 900.0


def start(folder: Path, tests: Iterable[str]) -> subprocess.Popen[bytes] | None:
    """Starts what the collected tests (their ids) wait for; it ends with this process."""
    ids = list(tests)
    wanted = [name for name in TOOLS if any(one.endswith(f"test_quality.py::{name}") for one in ids)]
    return subprocess.Popen([sys.executable, __file__, str(folder), *wanted], stdin=subprocess.PIPE) if wanted else None


def wait(folder: Path, name: str) -> None:
    """Until the tool is done; its output is the failure's message."""
    code, deadline = folder / f"{name}.code", time.monotonic() + PATIENCE
    while not code.exists():
        assert time.monotonic() < deadline, f"{' '.join(TOOLS[name])}: not done after {PATIENCE:g} s"
        time.sleep(0.1)
    said = (folder / f"{name}.out").read_text(encoding="utf-8", errors="replace")
    assert code.read_text() == "0", f"{' '.join(TOOLS[name])}\n{said}"


def main(folder: Path, names: Iterable[str]) -> None:
    running: list[subprocess.Popen[bytes]] = []

    def follow() -> None:  # the other side of the pipe has gone
        sys.stdin.read()
        for process in running:
            process.kill()

    threading.Thread(target=follow, daemon=True).start()
    for name in names:
        tool, *rest = TOOLS[name]
        words = [str(Path(sys.executable).parent / tool), *(word.replace("{}", str(folder)) for word in rest)]
        with (folder / f"{name}.out").open("wb") as output:
            running[:] = [subprocess.Popen(words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)]
            code = running[0].wait()
        unfinished = folder / f"{name}.part"
        unfinished.write_text(str(code))
        unfinished.rename(folder / f"{name}.code")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
