"""Forks a process for each client (`tests.processes`), with what takes long to import imported. ``server.py SOCKET``; it ends when its input is closed."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import marshal
import os
import runpy
import select
import signal
import site
import socket
import sys
import sysconfig
import threading
from collections.abc import Mapping, Sequence

#: What a run, an evaluation and a study import, but nothing of ours.
IMPORTED = (
    "attrs", "click", "einops", "filelock", "jinja2", "matplotlib.figure", "numpy", "PIL.Image", "pluggy", "pytest", "rich.console", "rich.table",
    "sacrebleu", "safetensors.torch", "scipy.stats", "statsmodels.stats.multitest", "tensorboardX", "tokenizers", "tomlkit", "torch",
    "torch._dynamo", "torch.testing",
)  # fmt: skip


def serve(path: str) -> tuple[list[str], str, dict[str, str], list[int]] | None:
    """Waits for clients; gives what one asks for in the process that is to do it, and None in the end.

    Each process has two watched files: its client's connection (a signal's number to hand on; closed: the client was killed) and the process itself.
    """
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(64)
    print("ready", flush=True)
    clients: dict[int, tuple[socket.socket, int]] = {}
    while True:
        watched = [0, listening.fileno(), *clients, *(c.fileno() for c, _ in clients.values())]
        poll = select.poll()
        for one in watched:
            poll.register(one, select.POLLIN)
        for ready, _ in poll.poll():
            if ready == 0:
                for process in clients:
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                return None
            if ready == listening.fileno():
                connection, _ = listening.accept()
                try:
                    asked, streams = received(connection)
                except (EOFError, OSError):
                    connection.close()  # killed before it could ask
                    continue
                pid = os.fork()
                if pid == 0:
                    return (*asked, streams)
                for stream in streams:
                    os.close(stream)
                clients[os.pidfd_open(pid)] = connection, pid
            elif ready in clients:
                ended(ready, *clients.pop(ready))
            else:
                found = next(((process, c) for process, (c, _) in clients.items() if c.fileno() == ready), None)
                if found:
                    hand_on(*found)


def received(connection: socket.socket) -> tuple[tuple[list[str], str, dict[str, str]], list[int]]:
    """Words, folder and environment, and the three streams."""
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    if len(head) < 8:
        raise EOFError
    size, message = int.from_bytes(head, "big"), b""
    while len(message) < size:
        more = connection.recv(size - len(message))
        if not more:
            raise EOFError
        message += more
    return marshal.loads(message), list(streams)


def ended(process: int, connection: socket.socket, pid: int) -> None:
    """Tells the client."""
    _, status = os.waitpid(pid, 0)
    os.close(process)
    with contextlib.suppress(OSError):
        connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(8, "big", signed=True))
    connection.close()


def hand_on(process: int, connection: socket.socket) -> None:
    try:
        numbers = connection.recv(64)
    except OSError:
        numbers = b""
    for number in numbers or bytes([signal.SIGKILL]):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, number)
    if not numbers:
        connection.shutdown(socket.SHUT_RDWR)


def become(words: Sequence[str], folder: str, environment: Mapping[str, str], streams: Sequence[int]) -> None:
    """This process is the client's from here on: ``WORD …`` are the interpreter, and what it is given."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, 1024)
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    name, _, errors = environment.get("PYTHONIOENCODING", "").partition(":")
    through = bool(environment.get("PYTHONUNBUFFERED"))
    for number, stream in enumerate(("stdin", "stdout", "stderr")):
        opened = open(number, "rb" if number == 0 else "wb", closefd=False)  # noqa: SIM115  # for as long as the process lives
        how = "backslashreplace" if number == 2 else errors or None
        made = io.TextIOWrapper(
            opened, name or None, how, line_buffering=number == 2 or opened.isatty(), write_through=through and number > 0
        )
        setattr(sys, stream, made)
        setattr(sys, f"__{stream}__", made)
    python, rest = words[0], list(words[1:])
    paths = list(BASE)
    sys.executable, where = python, os.path.realpath(os.path.join(os.path.dirname(python), "environment"))
    if where != os.path.realpath(sys.prefix):
        sys.path = [path for path in BASE if not path.endswith("-packages")]
        sys.prefix = sys.exec_prefix = where
        site.addsitedir(sysconfig.get_path("purelib", vars={"base": where, "platbase": where}))
        paths = [*sys.path, *(path for path in BASE if path not in sys.path)]
    given = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    first = os.path.dirname(rest[0]) if not rest[0].startswith("-") else "" if rest[0] == "-c" else folder
    sys.path[:] = [first, *map(os.path.abspath, given), *paths]
    sys.orig_argv = [python, *rest]
    importlib.invalidate_caches()


def do(words: Sequence[str]) -> None:
    """``-m MODULE``, ``-c CODE`` or a file, with arguments; a sitecustomize in PYTHONPATH before."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if any(os.path.isfile(os.path.join(path, "sitecustomize.py")) for path in given if path):
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")
    if words[0] == "-m":
        sys.argv = [words[1], *words[2:]]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
    else:
        sys.argv = list(words)
        runpy.run_path(words[0], run_name="__main__")


def finished(words: Sequence[str]) -> int:
    """Does it as the interpreter does, to its exit code; what is left of an interpreter's end, taking torch apart, would take longest."""
    code = 0
    try:
        do(words)
    except SystemExit as asked:
        code = asked.code if isinstance(asked.code, int) else 0 if asked.code is None else 1
        if code == 1 and not isinstance(asked.code, int):
            print(asked.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 120  # as Python says that it could not write
    return code


BASE = sys.path[1:]

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's: pytest's own
    for module in IMPORTED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 50)
    task = serve(sys.argv[1])
    if task is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        become(*task)
        ends = finished(task[0][1:])
        if ends < 0:
            signal.signal(-ends, signal.SIG_DFL)
            os.kill(os.getpid(), -ends)
        os._exit(ends & 255)
