"""The server's process: its socket, its end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from ibllm_core.errors import UserError

__all__ = ["listening", "serve"]


class Server(uvicorn.Server):
    """Ends with SIGTERM or Ctrl-C when what it took is answered; a second one ends it at once. The signal is no failure, as uvicorn would have it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        def stop(number: int, frame: FrameType | None) -> None:
            self.force_exit, self.should_exit = self.should_exit, True

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(app: ASGIApp, door: socket.socket, timeout: float) -> None:
    """Answers until it is told to stop."""
    grace = int(timeout) + 1
    Server(uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=grace)).run(sockets=[door])


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises `UserError` where the address is taken or not this machine's."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=512)
    except OSError as error:
        raise UserError(
            f"cannot listen at {host}:{port}: {error.strerror or error}; choose another --host or --port (0 takes a free one)"
        ) from None
