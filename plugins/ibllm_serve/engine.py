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

__all__ = ["Engine", "Job"]

#: Operation → the parts that it needs.
NEEDS = {
    "generate": ("text_encoder", "image_decoder"),
    "caption": ("image_encoder", "text_decoder"),
    "ask": ("image_encoder", "text_decoder"),
    "roundtrip": ("text_encoder", "image_decoder", "image_encoder", "text_decoder"),
    "score": ("image_encoder",),
}


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
            return "this model was not trained on questions (see recipes/vqa.toml)"
        return None

    def pixels(self, image: Image) -> Pixels:
        """An image of any size and mode as the model reads it (h w c)."""
        return self.model.pixels([image])[0]

    def options(self) -> list[str]:
        """What of a request's options the image decoder has."""
        return sorted({"guidance", "temperature", "steps"} & set(self.model.live_options()))

    def remarks(self, text: str, part: str) -> list[str]:
        """What a part of the model cannot know of a text. Raises `UserError` for one that says nothing. Does not wait for the model."""
        from ibllm.use import checked, remarks

        return remarks(self.model.model, checked(self.model.model, [text], part), part)

    def warm(self) -> None:
        """Asks for one of each, so that the first request is not the slow one, and a model that does not work is not served."""
        import numpy as np

        c, h, w = self.model.model.image_shape
        blank = np.zeros((h, w, c), np.uint8)
        if self.reason("generate") is None:
            self.compute(Job.of("generate", n=1), [("a", 0)])
        if self.reason("caption") is None:
            self.compute(Job.of("caption", n=1), [(blank, 0)])

    def compute(self, job: Job, items: Sequence[Any]) -> Sequence[Any]:
        """A result for each item. What the model remarks on texts was said of each request by itself."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)
            return self._does[job.operation](items, **dict(job.how))

    def _generate(self, items: Sequence[tuple[str, int]], *, n: int, **how: Any) -> Sequence[Sequence[Pixels]]:
        texts, seeds = map(list, zip(*items, strict=True))
        drawn = self.model.generate(texts, n=n, seed=seeds, output="numpy", **how)
        return drawn if n > 1 else [[each] for each in drawn]

    def _caption(self, items: Sequence[tuple[Pixels, int]], *, n: int, **how: Any) -> Sequence[Sequence[tuple[str, float | None]]]:
        images, seeds = map(list, zip(*items, strict=True))
        if n > 1:
            found = self.model.captions(images, n, **how)
            return [[(each.text, each.log_p) for each in best] for best in found]
        return [[(text, None)] for text in self.model.caption(images, seed=seeds, **how)]

    def _ask(self, items: Sequence[tuple[Pixels, str | None, int]], *, temperature: float, invent: bool) -> Sequence[tuple[str, str]]:
        images, given, seeds = map(list, zip(*items, strict=True))
        questions = self.model.ask(images, seed=seeds, temperature=temperature) if invent else given
        return list(zip(questions, self.model.answer(images, questions), strict=True))

    def _roundtrip(self, items: Sequence[tuple[Any, int]], *, given: str) -> Sequence[list[tuple[str, Any]]]:
        """The legs of each. `Trained.roundtrip` would take a text that is the name of a file for that file."""
        things, seeds = map(list, zip(*items, strict=True))
        texts = things if given == "text" else self.model.caption(things, seed=seeds)
        drawn = self.model.generate(texts, seed=seeds, output="numpy")
        if given == "image":
            return [[("image", y), ("text", x), ("image", back)] for y, x, back in zip(things, texts, drawn, strict=True)]
        read = self.model.caption(drawn, seed=seeds)
        return [[("text", x), ("image", y), ("text", back)] for x, y, back in zip(texts, drawn, read, strict=True)]

    def _score(self, items: Sequence[tuple[Pixels, str]]) -> Sequence[Any]:
        images, texts = map(list, zip(*items, strict=True))
        return self.model.score(images, texts)


def _trained_on_questions(recipe: Recipe) -> bool:
    """Whether some stage has a loss that needs questions."""
    played = {name for stage in recipe.order for name in recipe.stages[stage].losses}
    return any("data.questions" in recipe.losses[name].component.config.needs() for name in played)
