"""A stand-in for a trained model, quick and without torch, and the application around it."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ibllm_serve.app import application
from ibllm_serve.engine import Engine
from ibllm_serve.settings import Settings
from PIL import Image

from ibllm.answers import Score, Written
from ibllm.blocks.ends import count_ends


def trained_on(needs: set[str]) -> Any:
    """What of a recipe says which losses it had."""
    loss = SimpleNamespace(component=SimpleNamespace(config=SimpleNamespace(needs=lambda: needs)))
    return SimpleNamespace(running=lambda: [SimpleNamespace(losses={"one": 1.0})], losses={"one": loss})


class StandIn:
    """Draws the seed, and reads the mean."""

    def __init__(self, parts: Sequence[str] = ("text_encoder", "image_decoder", "image_encoder", "text_decoder")) -> None:
        self.model = self
        self.parts, self.image_shape = dict.fromkeys(parts), (3, 8, 8)
        self.recipe = trained_on({"data.questions"})
        self.batches: list[int] = []
        self.seconds = 0.0
        self.written, self.asked = "a mean of {:.0f}", "how bright is it?"
        self.hold = threading.Event()
        self.hold.set()

    def live_options(self) -> dict[str, Any]:
        return {"steps": 4}

    def _compute(self, count: int) -> None:
        self.batches.append(count)
        assert self.hold.wait(10)
        time.sleep(self.seconds)

    def generate(self, texts: list[str], *, n: int = 1, seed: list[int], output: str = "pil", **how: Any) -> Any:
        self._compute(len(texts))
        if "break" in texts:
            raise RuntimeError("broken")
        drawn = [[np.full((8, 8, 3), (one + place * (texts != ["always"])) % 256, np.uint8) for place in range(n)] for one in seed]
        return drawn if n > 1 else [each[0] for each in drawn]

    def pixels(self, images: Sequence[Image.Image], outside: list[float]) -> Any:
        outside += [0.75 if image.width == 4 * image.height else 0.0 for image in images]
        return np.stack([np.asarray(image.convert("RGB").resize((8, 8))) for image in images])

    def caption(self, images: Sequence[Any], *, seed: Sequence[int] = (), **how: Any) -> list[str]:
        self._compute(len(images))
        count_ends(torch.tensor([bool(image.mean() == 77) for image in images]), 24)
        return [self.written.format(image.mean()) for image in images]

    def captions(self, images: Sequence[Any], n: int, **how: Any) -> Any:
        return [[Written(f"caption {place}", -float(place)) for place in range(n)] for _ in images]

    def ask(self, images: Sequence[Any], *, seed: Sequence[int], temperature: float) -> list[str]:
        return [self.asked for _ in images]

    def answer(self, images: Sequence[Any], questions: Sequence[str]) -> list[str]:
        return [f"{image.mean():.0f}" for image in images]

    def score(self, images: Sequence[Any], texts: Sequence[str]) -> list[Score]:
        return [Score(text_given_image=-1.5, image_given_text=float("-inf"), image_kind="bound", image_of="images") for _ in images]


class Quiet(Engine):
    """Knows the words of the stand-in."""

    def remarks(self, text: str, part: str) -> list[str]:
        return ["1 word was never seen in training: zebra"] if "zebra" in text else []


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture
def client(stand_in: StandIn) -> Iterator[Callable[..., Any]]:
    """(settings) → a client of a server with these."""
    from contextlib import ExitStack

    from starlette.testclient import TestClient

    with ExitStack() as stack:

        def make(model: StandIn = stand_in, **settings: Any) -> Any:
            app = application(Quiet(model), Settings(**settings), "stand-in", ["a text"])  # type: ignore[arg-type]
            return stack.enter_context(TestClient(app, base_url="http://localhost", raise_server_exceptions=False))

        yield make


def encoded(size: tuple[int, int] = (20, 10), colour: Any = 100, mode: str = "L", kind: str = "PNG") -> str:
    """An image in base64."""
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, kind)
    return base64.b64encode(file.getvalue()).decode()
