"""The application: its paths, and what each does."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response

from ibllm.answers import alike

from . import schema
from .batching import Batcher
from .engine import NEEDS, Cannot, Engine, Job
from .failures import install
from .guard import Guard
from .images import as_text, decoded, png
from .metrics import Metrics
from .settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

__all__ = ["application"]

PAGE = Path(__file__).with_name("page")
#: Images that are decoded at once; each may take the memory of `Settings.pixels`.
DECODING = 2
#: What may go wrong with a request to the model.
FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": schema.Failed, "description": text}
    for status, text in {
        400: "Not JSON",
        401: "No token, or a wrong one",
        403: "A name that this server does not answer to",
        408: "Sent too slowly",
        409: "This model cannot do that",
        413: "Too many bytes or pixels",
        422: "Not a valid request",
        429: "Too many requests at once; Retry-After says when to come again",
        503: "Its turn did not come, or the server stops",
        504: "The model took too long",
    }.items()
}


class Service:
    """One model, its queue and its limits."""

    def __init__(self, engine: Engine, settings: Settings, name: str) -> None:
        self.engine, self.settings, self.name = engine, settings, name
        self.metrics = Metrics()
        self.batcher = Batcher(engine.compute, rows=settings.rows, wait=settings.wait, limit=settings.queue, seen=self._seen)
        self.metrics.watch(self.batcher)
        self._decoding = asyncio.Semaphore(DECODING)
        self._pace = 0.0

    def _seen(self, job: Job, requests: int, rows: int, seconds: float) -> None:
        self._pace += 0.2 * (seconds / requests - self._pace)
        self.metrics.batch(job.operation, rows, seconds)

    def retry(self) -> int:
        """Seconds until those that wait now are likely through."""
        return min(60, max(1, math.ceil(self._pace * self.batcher.waiting)))

    def answered(self, path: str, status: int, seconds: float) -> None:
        name = path.removeprefix("/v1/")
        self.metrics.answered(name if name in NEEDS else "other", status, seconds)

    def require(self, operation: str) -> None:
        if (reason := self.engine.reason(operation)) is not None:
            raise Cannot(reason)

    async def image(self, data: str, notices: list[str]) -> Pixels:
        """An image of a request as the model reads it. Few are decoded at once, and only what is small is kept."""

        def read() -> Pixels:
            image = decoded(data, self.settings.pixels)
            if getattr(image, "is_animated", False):
                notices.append("of an animation the first picture is read")
            pixels, said = self.engine.pixels(image)
            notices.extend([said] if said else [])
            return pixels

        async with self._decoding:
            return await asyncio.to_thread(read)

    async def run(self, job: Job, item: Any, rows: int = 1) -> Any:
        return await self.batcher.submit(job, item, rows=rows, timeout=self.settings.timeout)


def picture(pixels: Pixels) -> schema.Picture:
    return schema.Picture(png=as_text(png(pixels)), width=pixels.shape[1], height=pixels.shape[0])


def leg(number: int, kind: str, made: Any) -> schema.Leg:
    """The leg of a round trip at a place, from 0."""
    if kind == "text":
        return schema.Leg(part="text_decoder" if number else "input", text=made)
    return schema.Leg(part="image_decoder" if number else "input", image=picture(made))


def application(engine: Engine, settings: Settings, name: str, examples: list[str]) -> FastAPI:
    """The server's application.

    Args:
        name: what the model is called.
        examples: texts to begin with.
    """
    service = Service(engine, settings, name)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.batcher.close()

    # FastAPI's own pages with the description load their scripts from elsewhere.
    app = FastAPI(
        title="ibllm", version=version("ibllm"), description=f"The model {name}.", docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.add_middleware(Guard, settings=settings, retry=service.retry, answered=service.answered)
    install(app, settings.timeout, service.retry)
    _operations(app, service)
    _questions_and_comparisons(app, service)
    _about(app, service, examples)
    return app


def _operations(app: FastAPI, service: Service) -> None:
    @app.post("/v1/generate", responses={**FAILURES, 200: {"content": {"image/png": {}}}})
    async def generate(request: schema.GenerateRequest, raw: Request) -> schema.Generated | Any:
        """Pictures for a text; with `Accept: image/png` and n = 1 the file itself."""
        service.require("generate")
        job = Job.of("generate", n=request.n, **request.model_dump(include={"best_of", "by", "guidance", "temperature", "steps"}))
        notices = service.engine.remarks(request.text, "text_encoder")
        drawn = await service.run(job, (request.text, request.seed), rows=request.n * request.best_of)
        if request.n == 1 and raw.headers.get("accept", "").startswith("image/png"):
            return Response(png(drawn[0]), media_type="image/png")
        if request.n > 1 and request.best_of == 1 and (said := alike([drawn])):
            notices.append(said)
        chosen = None if request.best_of == 1 else f"the best of {request.best_of} by {request.by}"
        return schema.Generated(images=[picture(each) for each in drawn], seed=request.seed, chosen_by=chosen, notices=notices)

    @app.post("/v1/caption", responses=FAILURES)
    async def caption(request: schema.CaptionRequest) -> schema.Captions:
        """What is in an image."""
        service.require("caption")
        notices: list[str] = []
        how = {"beams", "length_exponent"} | (set() if request.n > 1 else {"temperature", "top_p"})
        image = await service.image(request.image, notices)
        written, said = await service.run(
            Job.of("caption", n=request.n, **request.model_dump(include=how)), (image, request.seed), rows=request.n
        )
        notices.extend([said] if said else [])
        return schema.Captions(captions=[schema.Captioned(text=text, log_p=log_p) for text, log_p in written], notices=notices)


def _questions_and_comparisons(app: FastAPI, service: Service) -> None:
    @app.post("/v1/ask", responses=FAILURES)
    async def ask(request: schema.AskRequest) -> schema.Answered:
        """The answer to a question about an image; without one the model asks first."""
        service.require("ask")
        notices = [] if request.question is None else service.engine.remarks(request.question, "text_decoder")
        image, invent = await service.image(request.image, notices), request.question is None
        job = Job.of("ask", invent=invent, temperature=request.temperature if invent else 0.0)
        question, answer = await service.run(job, (image, request.question, request.seed))
        return schema.Answered(question=question, answer=answer, asked_by="model" if invent else "user", notices=notices)

    @app.post("/v1/roundtrip", responses=FAILURES)
    async def roundtrip(request: schema.RoundTripRequest) -> schema.RoundTripped:
        """Text → image → text, or image → text → image."""
        service.require("roundtrip")
        notices: list[str] = []
        if request.image is not None:
            thing: Any = await service.image(request.image, notices)
        else:
            assert request.text is not None
            thing, notices = request.text, service.engine.remarks(request.text, "text_encoder")
        made = await service.run(Job.of("roundtrip", given="image" if request.text is None else "text"), (thing, request.seed), rows=2)
        legs = [leg(number, kind, value) for number, (kind, value) in enumerate(made)]
        return schema.RoundTripped(legs=legs, notices=notices)

    @app.post("/v1/score", responses=FAILURES)
    async def score(request: schema.ScoreRequest) -> schema.Scored:
        """How well an image and a text fit, in nats."""
        service.require("score")
        notices = service.engine.remarks(request.text, "text_encoder")
        image = await service.image(request.image, notices)
        found = await service.run(Job.of("score"), (image, request.text))
        figures = {name: getattr(found, name) for name in ("text_given_image", "image_given_text", "agreement")}
        if infinite := [name for name, value in figures.items() if value is not None and not math.isfinite(value)]:
            notices.append(f"{', '.join(infinite)}: not finite, so none is given")
        figures.update(dict.fromkeys(infinite))
        return schema.Scored(**figures, image_kind=found.image_kind, image_of=found.image_of, notices=notices)


def _about(app: FastAPI, service: Service, examples: list[str]) -> None:
    settings = service.settings

    @app.get("/v1/model", responses={key: FAILURES[key] for key in (401, 403)})
    async def model() -> schema.Told:
        """What this model can do, and what one may send."""
        reasons = {name: service.engine.reason(name) for name in NEEDS}
        c, h, w = service.engine.model.model.image_shape
        return schema.Told(
            name=service.name,
            image=(h, w, c),
            operations={name: schema.Operation(available=reason is None, reason=reason) for name, reason in reasons.items()},
            options=service.engine.options(),
            limits={"body": settings.body, "pixels": settings.pixels, "text": schema.LONGEST, "images": schema.MOST},
            examples=examples,
        )

    @app.get("/health", responses={403: FAILURES[403]})
    async def health() -> schema.Health:
        """Whether it serves; needs no token."""
        return schema.Health(status="ok", waiting=service.batcher.waiting, version=app.version)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, 401: FAILURES[401], 403: FAILURES[403]})
    async def metrics() -> Response:
        """Prometheus' figures: requests, seconds, rows of batches, those that wait, memory."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    for path, name, kind in (
        ("/", "index.html", "text/html"),
        ("/page.css", "page.css", "text/css"),
        ("/page.js", "page.js", "text/javascript"),
    ):
        app.add_api_route(path, _file(PAGE / name, kind), include_in_schema=False)


def _file(path: Path, kind: str) -> Any:
    async def page() -> FileResponse:
        return FileResponse(path, media_type=kind)

    return page
