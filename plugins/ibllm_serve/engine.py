"""What is asked of a model, several requests at once. Shapes: h w c an image."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from ibllm_core.errors import Notice

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

    from ibllm.trained import Trained
    from ibllm_core.recipe.schema import Recipe

    Pixels = npt.NDArray[np.uint8]

__all__ = ["Cannot", "Engine", "Job"]

#: Operation → the parts that it needs.
NEEDS = {
    "generate": ("text_encoder", "image_decoder"),
    "caption": ("image_encoder", "text_decoder"),
    "ask": ("image_encoder", "text_decoder"),
    "roundtrip": ("text_encoder", "image_decoder", "image_encoder", "text_decoder"),
    "score": ("text_encoder",),
}


class Cannot(Exception):
    """What this model has not learnt."""


@attrs.frozen
class Job:
    """What requests must have in common to go together.

    Args:
        operation: one of `NEEDS`.
        how: the options, by name.
    """

    operation: str
    how: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, operation: str, **how: Any) -> Job:
        return cls(operation, tuple(sorted(how.items())))


class Engine:
    """A trained model behind the operations of the server.

    A result depends on the request and its seed, never on what it was computed with (`Trained` keys chance so).
    """

    def __init__(self, model: Trained) -> None:
        self.model = model
        self._questions = _trained_on_questions(model.recipe)
        self._does: Mapping[str, Callable[..., Sequence[Any]]] = {
            "generate": self._generate,
            "caption": self._caption,
            "ask": self._ask,
            "roundtrip": self._roundtrip,
            "score": self._score,
        }

    def reason(self, operation: str) -> str | None:
        """Why this model cannot, or None."""
        parts = self.model.model.parts
        if missing := [name for name in NEEDS[operation] if name not in parts]:
            return f"this model has no {' and no '.join(missing)}"
        if operation == "ask" and not self._questions:
            return "this model was trained on no questions; ibllm:vqa is a recipe that has some"
        return None

    def pixels(self, image: Image) -> tuple[Pixels, str]:
        """An image of any size and mode as the model reads it (h w c), and where much of it is cut off a sentence about it."""
        from ibllm.cropping import cut_off

        shares = list[float]()
        return self.model.pixels([image], outside=shares)[0], cut_off(shares)

    def options(self) -> list[str]:
        """What of a request's options the image decoder has."""
        return sorted({"guidance", "temperature", "steps"} & set(self.model.live_options()))

    def remarks(self, text: str, part: str) -> list[str]:
        """What a part of the model cannot know of a text. Raises `UserError` for one that says nothing. Does not wait for the model."""
        from ibllm.use import as_read

        return as_read(self.model.model, [text], part)[1]

    def warm(self) -> None:
        """Asks for one of each, so that the first request is not the slow one, and a model that does not work is not served."""
        import numpy as np

        c, h, w = self.model.model.image_shape
        blank = np.zeros((h, w, c), np.uint8)
        if self.reason("generate") is None:
            self.compute(Job.of("generate", n=1), [("a", 0)])
        if self.reason("caption") is None:
            self.compute(Job.of("caption", n=1), [(blank, 0)])
        if self.reason("score") is None:
            self.compute(Job.of("score"), [(blank, "a")])

    def compute(self, job: Job, items: Sequence[Any]) -> Sequence[Any]:
        """A result for each item. What the model remarks on texts was said of each request by itself."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)
            return self._does[job.operation](items, **dict(job.how))

    def _generate(self, items: Sequence[tuple[str, int]], *, n: int, **how: Any) -> Sequence[Sequence[Pixels]]:
        texts, seeds = map(list, zip(*items, strict=True))
        drawn = self.model.generate(texts, n=n, seed=seeds, output="numpy", **how)
        return drawn if n > 1 else [[each] for each in drawn]

    def _caption(self, items: Sequence[tuple[Pixels, int]], *, n: int, **how: Any) -> Sequence[tuple[list[tuple[str, float | None]], str]]:
        """Of each image its captions with their log p, and what is to be said of those that were cut."""
        from ibllm.blocks.ends import Ends, counted_ends

        images, seeds = map(list, zip(*items, strict=True))
        with counted_ends() as ends:
            if n > 1:
                found = [[(each.text, each.log_p) for each in best] for best in self.model.captions(images, n, **how)]
            else:
                found = [[(text, None)] for text in self.model.caption(images, seed=seeds, **how)]
        cut = [ends.cut[row * n : (row + 1) * n] for row in range(len(images))]
        return [(written, Ends(each, ends.most).said()) for written, each in zip(found, cut, strict=True)]

    def _ask(self, items: Sequence[tuple[Pixels, str | None, int]], *, temperature: float, invent: bool) -> Sequence[tuple[str, str]]:
        images, given, seeds = map(list, zip(*items, strict=True))
        questions = self.model.ask(images, seed=seeds, temperature=temperature) if invent else given

        def answers(rows: list[int]) -> Sequence[tuple[str, str]]:
            asked = [questions[row] for row in rows]
            return list(zip(asked, self.model.answer([images[row] for row in rows], asked), strict=True))

        return _where_written(questions, answers)

    def _roundtrip(self, items: Sequence[tuple[Any, int]], *, given: str) -> Sequence[list[tuple[str, Any]]]:
        """The legs of each. `Trained.roundtrip` would take a text that is the name of a file for that file."""
        things, seeds = map(list, zip(*items, strict=True))
        texts = things if given == "text" else self.model.caption(things, seed=seeds)

        def legs(rows: list[int]) -> Sequence[list[tuple[str, Any]]]:
            asked, keys = [texts[row] for row in rows], [seeds[row] for row in rows]
            drawn = self.model.generate(asked, seed=keys, output="numpy")
            if given == "image":
                return [
                    [("image", things[row]), ("text", text), ("image", back)] for row, text, back in zip(rows, asked, drawn, strict=True)
                ]
            read = self.model.caption(drawn, seed=keys)
            return [[("text", text), ("image", image), ("text", back)] for text, image, back in zip(asked, drawn, read, strict=True)]

        return _where_written(texts, legs)

    def _score(self, items: Sequence[tuple[Pixels, str]]) -> Sequence[Any]:
        images, texts = map(list, zip(*items, strict=True))
        return self.model.score(images, texts)


def _where_written(texts: Sequence[str], go_on: Callable[[list[int]], Sequence[Any]]) -> list[Any]:
    """What comes of each text; of one that is empty, which a model may write, that there is none."""
    rows = [row for row, text in enumerate(texts) if text.strip()]
    made = dict(zip(rows, go_on(rows) if rows else [], strict=True))
    return [made.get(row, Cannot("the model wrote nothing of this image, so there is nothing to go on from")) for row in range(len(texts))]


def _trained_on_questions(recipe: Recipe) -> bool:
    """Whether some stage has a loss that needs questions."""
    played = {name for stage in recipe.running() for name in stage.losses}
    return any("data.questions" in recipe.losses[name].component.config.needs() for name in played)
