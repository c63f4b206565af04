"""Python in a process of its own, which finds what this one finds. Torch-free."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: What would let someone's settings into the run of a conformance suite.
_OF_PYTEST = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")


def python(*words: str, given: str = "", folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """``python WORD …`` with `given` on its standard input; it sees the folders of this process's ``sys.path``, and no extra plugin of pytest."""
    environment = {name: value for name, value in os.environ.items() if name not in _OF_PYTEST}
    environment |= {"PYTHONPATH": os.pathsep.join(os.path.abspath(path or ".") for path in sys.path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, *words], input=given, capture_output=True, text=True, encoding="utf-8", check=False, env=environment, cwd=folder
    )


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """What a failed process said last: the error, in most cases."""
    lines = [line.strip() for line in (done.stderr.strip() or done.stdout.strip()).splitlines() if line.strip()]
    return lines[-1] if lines else f"it ended with exit code {done.returncode} and said nothing"
