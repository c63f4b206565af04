"""What stands before the application: who may ask, how many at once, how much they may send and for how long."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .failures import failure
from .settings import LOOPBACK, Settings

__all__ = ["Guard"]

#: The paths that need no token: the page, which asks for it, and whether the server is there.
OPEN = {"/", "/page.css", "/page.js", "/health"}
#: The page needs nothing from elsewhere, and is shown in no other page.
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class _Refused(Exception):
    """Args: status, code, message."""


class Guard:
    """Refuses what may not be asked before anything is read of it, and reads bodies up to their limit.

    Args:
        retry: seconds after which one that was refused may come again.
        answered: told of every answer: path, status, seconds.
    """

    def __init__(self, app: ASGIApp, settings: Settings, retry: Callable[[], int], answered: Callable[[str, int, float], None]) -> None:
        self._app, self._settings, self._retry, self._answered = app, settings, retry, answered
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.monotonic()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                self._answered(scope["path"], message["status"], time.monotonic() - start)
            await send(message)

        counted = scope["method"] == "POST"
        try:
            self._admit(scope, counted)
        except _Refused as refused:
            status, code, text = refused.args
            more = {"retry-after": str(self._retry())} if status == 429 else {"www-authenticate": "Bearer"} if status == 401 else {}
            await failure(status, code, text, {**more, "connection": "close"})(scope, receive, sending)
            return
        self._inside += counted
        try:
            await self._app(scope, await self._read(receive) if counted else receive, sending)
        except _Refused as refused:
            status, code, text = refused.args
            await failure(status, code, text, {"connection": "close"})(scope, receive, sending)
        finally:
            self._inside -= counted

    def _admit(self, scope: Scope, counted: bool) -> None:
        headers, settings = Headers(scope=scope), self._settings
        if settings.token is None and settings.loopback and _host(headers.get("host", "")) not in (*LOOPBACK, settings.host.lower()):
            # A page elsewhere whose name was made to mean this machine (DNS rebinding).
            raise _Refused(403, "forbidden", "this server answers to the names of this machine only; with --token it answers to any")
        if settings.token is not None and scope["path"] not in OPEN:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), settings.token.encode()):
                raise _Refused(401, "unauthorised", "expected the header Authorization: Bearer TOKEN with this server's token")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > settings.body:
            raise _Refused(413, "too_large", _too_large(settings.body))
        if counted and self._inside >= settings.queue:
            raise _Refused(429, "busy", f"{settings.queue} requests wait already; try again later")

    async def _read(self, receive: Receive) -> Receive:
        """The whole body, for an application that asks for it."""
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        break
                    body += message.get("body", b"")
                    if len(body) > self._settings.body:
                        raise _Refused(413, "too_large", _too_large(self._settings.body))
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise _Refused(408, "late", f"the request was not sent within {self._settings.timeout:g} seconds") from None
        return _replay(bytes(body), receive)


def _replay(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _too_large(limit: int) -> str:
    return f"a request has at most {limit:,} bytes; send a smaller image"


def _host(header: str) -> str:
    """The host of a Host header, without its port."""
    name = header.lower()
    return name.partition("]")[0].lstrip("[") if name.startswith("[") else name.partition(":")[0]
