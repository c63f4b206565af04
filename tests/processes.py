"""Python in a process of its own without the seconds that importing torch takes: a server that has it imported forks one for each command.

`command` gives the words for `subprocess`, whose pipes, folder, environment, signals, time limits and exit codes are as usual: what it starts is a small
client that hands its three streams to the server and waits. What must not find torch imported, has to have a start of its own (a hash seed, a
sitecustomize, a locale) or is looked for in /proc is started with ``sys.executable``. With IBLLM_TESTS_COLD=1 all are: before a release.
"""

from __future__ import annotations

import atexit
import functools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

#: The interpreter, also while a test has set ``sys.executable`` to something else.
PYTHON = sys.executable
SERVER, CLIENT = (Path(__file__).with_name(f"process_{side}.py") for side in ("server", "client"))
#: Forking, and waiting for a process and a connection at once.
WARM = hasattr(os, "fork") and hasattr(os, "pidfd_open") and not os.environ.get("IBLLM_TESTS_COLD")


def command(*words: object, python: Path | None = None) -> list[str]:
    """``python WORD …``, where the first words are ``-m MODULE``, ``-c CODE`` or a file.

    Args:
        python: that of a virtual environment which sees this one's packages; its own are seen before them.
    """
    said = [str(word) for word in words]
    if not WARM:
        return [str(python or PYTHON), *said]
    own = python is None or python == Path(PYTHON)
    return [PYTHON, "-I", "-S", str(CLIENT), _server(), executable() if own else str(python), *said]


def ibllm(*words: object, python: Path | None = None) -> list[str]:
    """``python -m ibllm WORD …``."""
    return command("-m", "ibllm", *words, python=python)


def executable() -> str:
    """What ``sys.executable`` may be set to where the code under test starts processes of its own; in those of `command` it is.

    The workers of studies, the processes of a run and pytest are forked; all else, such as what must not import torch, is started by Python itself.
    """
    return os.path.join(os.path.dirname(_server()), "python") if WARM else PYTHON


@functools.cache
def _server() -> str:
    """The socket of this process's server, which ends with it: its standard input is closed then."""
    folder = tempfile.mkdtemp(prefix="ibllm-")  # short: a socket's path has up to 107 bytes
    socket = os.path.join(folder, "s")
    python, forked = os.path.join(folder, "python"), '"-m ibllm_study.worker "* | "-m pytest "* | "-m ibllm run"'
    words = shlex.join([PYTHON, "-I", "-S", str(CLIENT), socket, python])
    cases = f'case "$1 $2 $3" in {forked}) exec {words} "$@" ;; *) exec {shlex.quote(PYTHON)} "$@" ;; esac'
    Path(python).write_text(f"#!/bin/sh\n{cases}\n", encoding="utf-8")
    Path(python).chmod(0o755)
    started = subprocess.Popen([PYTHON, str(SERVER), socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert started.stdin is not None and started.stdout is not None
    assert started.stdout.readline() == b"ready\n", "the server did not start"

    def end() -> None:
        started.stdin.close()
        started.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return socket
