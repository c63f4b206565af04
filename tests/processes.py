"""Python in a process of its own without the seconds that importing torch takes: a server that has it imported forks one for each command.

`command` gives the words for `subprocess`, whose pipes, folder, environment, signals, time limits and exit codes are as usual: what it starts is a small
client that hands its three streams to the server and waits. What must not find torch imported, has to have a start of its own (a hash seed, a
locale) or is looked for in /proc is started with ``sys.executable``. A sitecustomize in PYTHONPATH is heeded, though torch is there before it. With
IBLLM_TESTS_COLD=1 all are started anew: before a release.
"""

from __future__ import annotations

import atexit
import functools
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

#: The interpreter, also while a test has set ``sys.executable`` to something else.
PYTHON = sys.executable
SERVER, CLIENT = (Path(__file__).with_name(f"process_{side}.py") for side in ("server", "client"))
#: What `executable` forks, after ``-m``.
FORKED = ("ibllm run", "ibllm_study.worker", "ibllm_testing.speed", "pytest")
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
    return [PYTHON, "-I", "-S", str(CLIENT), _server(), executable(python), *said]


def ibllm(*words: object, python: Path | None = None) -> list[str]:
    """``python -m ibllm WORD …``."""
    return command("-m", "ibllm", *words, python=python)


@functools.cache
def executable(python: Path | None = None) -> str:
    """What ``sys.executable`` may be set to where the code under test starts processes of its own; in those of `command` it is.

    The workers of studies, the processes of a run, pytest and measurements of speed are forked; all else, such as what must not import torch, is
    started by Python itself.

    Args:
        python: that of a virtual environment, as in `command`.
    """
    own = str(python or PYTHON)
    if not WARM:
        return own
    folder = Path(tempfile.mkdtemp(dir=os.path.dirname(_server())))
    made, forked = folder / "python", " | ".join(f'"-m {words} "*' for words in FORKED)
    (folder / "environment").symlink_to(Path(own).parents[1])
    words = shlex.join([PYTHON, "-I", "-S", str(CLIENT), _server(), str(made)])
    cases = f'case "$* " in {forked}) exec {words} "$@" ;; *) exec {shlex.quote(own)} "$@" ;; esac'
    made.write_text(f"#!/bin/sh\n{cases}\n", encoding="utf-8")
    made.chmod(0o755)
    return str(made)


def free_port() -> int:
    """A port for processes that meet on this machine (``MASTER_PORT``)."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@functools.cache
def _server() -> str:
    """The socket of this process's server, which ends with it: its standard input is closed then."""
    folder = tempfile.mkdtemp(prefix="ibllm-")  # short: a socket's path has up to 107 bytes
    place = os.path.join(folder, "s")
    started = subprocess.Popen([PYTHON, str(SERVER), place], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert started.stdin is not None and started.stdout is not None
    assert started.stdout.readline() == b"ready\n", "the server did not start"

    def end() -> None:
        started.stdin.close()
        started.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return place
