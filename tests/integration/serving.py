"""A small trained run, and ``ibllm serve`` as a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ibllm

ROOT = Path(__file__).parents[2]
#: The smallest job, with questions, and long enough to write some words.
ASKS = (
    "data.questions=true",
    "losses.question_nll={ use = 'question_nll' }",
    "losses.answer_nll={ use = 'answer_nll' }",
    "stages.joint.losses.question_nll=1.0",
    "stages.joint.losses.answer_nll=1.0",
    "stages.image.steps=150",
)


def trained(folder: Path) -> Path:
    """A run directory of some steps."""
    return ibllm.recipe(ROOT / "tests/training/tiny.toml", set=ASKS).run(folder / "run").path


@contextmanager
def served(run: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server's address and process. It has to end well when it is told to stop."""
    command = [sys.executable, "-m", "ibllm", "serve", str(run), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = []
        try:
            for line in process.stderr:
                said.append(line)
                if found := re.search(r"at (http://\S+)", line):
                    break
            else:
                raise AssertionError("".join(said))
            yield found[1].rstrip("/"), process
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.communicate(timeout=60)[1]
        assert process.returncode == 0, rest
        assert rest == "all that was asked is answered; stopped\n"
