"""Python in a process of its own, which finds what this one finds. Torch-free."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

#: Seconds that one process may take: enough for the checks of many large parts on a slow machine.
PATIENCE = 3600.0

#: What would let someone's settings into the run of a conformance suite.
_OF_PYTEST = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")


def python(*words: str, given: str = "", folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """``python WORD …`` with `given` on its standard input; it sees the folders of this process's ``sys.path``, and no extra plugin of pytest.

    One that takes longer than `PATIENCE` is ended; its last words say so.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _OF_PYTEST}
    environment |= {"PYTHONPATH": os.pathsep.join(os.path.abspath(path or ".") for path in sys.path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, *words]
    try:
        return subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            env=environment,
            cwd=folder,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"it was not done after {PATIENCE:g} s and was ended")


class NoAnswer(Exception):
    """The process ended without an answer; the message is its last words."""


def ask(*words: str, given: str = "") -> Any:
    """What ``python WORD … FILE`` wrote into FILE as JSON: whatever a plugin prints in that process, it is not mistaken for the answer.

    Raises:
        NoAnswer: it failed, or wrote nothing.
    """
    with tempfile.TemporaryDirectory(prefix="ibllm-ask-") as folder:
        file = Path(folder) / "answer.json"
        done = python(*words, str(file), given=given)
        if done.returncode or not file.is_file():
            raise NoAnswer(last_words(done))
        return json.loads(file.read_text(encoding="utf-8"))


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """What a failed process said last: the error, in most cases."""
    lines = [line.strip() for line in (done.stderr.strip() or done.stdout.strip()).splitlines() if line.strip()]
    return lines[-1] if lines else f"it ended with exit code {done.returncode} and said nothing"
