"""Errors in one JSON form: ``{"error": {"code": …, "message": …}}``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ibllm_core.errors import UserError

from .batching import Closed, Full, Late
from .engine import Cannot
from .images import TooLarge, Unreadable

__all__ = ["failure", "install"]


def failure(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


def install(app: FastAPI, timeout: float, retry: Callable[[], int]) -> None:
    """The application's exceptions become answers."""

    def on(kind: type[Exception], answer: Callable[[Exception], Response]) -> None:
        async def handler(request: Request, error: Exception) -> Response:
            return answer(error)

        app.add_exception_handler(kind, handler)

    def again() -> dict[str, str]:
        return {"retry-after": str(retry())}

    def late(error: Exception) -> Response:
        assert isinstance(error, Late)
        text = f"no answer within {timeout:g} seconds"
        return (
            failure(504, "late", f"{text}: the model was at it")
            if error.begun
            else failure(503, "late", f"{text}: its turn did not come", again())
        )

    on(RequestValidationError, lambda error: failure(422, "invalid", _explained(error)))
    on(HTTPException, _http)
    on(TooLarge, lambda error: failure(413, "too_large", str(error)))
    on(Unreadable, lambda error: failure(422, "invalid", str(error)))
    on(UserError, lambda error: failure(422, "invalid", str(error)))
    on(Cannot, lambda error: failure(409, "cannot", str(error)))
    on(Full, lambda error: failure(429, "busy", "too many requests wait already; try again later", again()))
    on(Late, late)
    on(Closed, lambda error: failure(503, "stopping", "the server is about to stop", again()))
    on(Exception, lambda error: failure(500, "internal", "an error of the server's, not of the request; its log has it"))


def _http(error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return failure(error.status_code, HTTPStatus(error.status_code).phrase.lower().replace(" ", "_"), str(error.detail), error.headers)


def _explained(error: Exception) -> str:
    """Each mistake with its place. What was sent is not repeated: it may be large, or no JSON."""
    assert isinstance(error, RequestValidationError)
    found = []
    for each in error.errors()[:8]:
        place = ".".join(str(part) for part in each["loc"] if part != "body")[:200]
        said = str(each["msg"]).removeprefix("Value error, ")
        found.append(f"{place}: {said}" if place else said)
    return "; ".join(found).encode(errors="replace").decode()
