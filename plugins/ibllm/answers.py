"""What an opened model gives back beside pictures and texts. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import attrs

__all__ = ["Found", "RoundTrip", "Score", "Written", "alike"]


@attrs.frozen
class Written:
    """A text that a model wrote.

    Attributes:
        text: the text.
        log_p: log p(text | image) in nats, its end included, exact.
    """

    text: str
    log_p: float


@attrs.frozen(kw_only=True)
class Score:
    """How well a text and an image belong together; None where a model has none of it.

    Attributes:
        text_given_image: log p(x | y) in nats, of the text decoder, exact.
        image_given_text: log p(y | x) in nats, of the image decoder.
        image_kind: what that is: ``exact``, or a ``bound``, at most log p(y | x) on average over its noise; None where there is none.
        image_of: of what: ``images`` (a density over images in [−1, 1]), or the ``tokens`` or ``latents`` of the model's codec.
        agreement: how near the latents of both are, in [−1, 1].
    """

    text_given_image: float | None = None
    image_given_text: float | None = None
    image_kind: str | None = None
    image_of: str | None = None
    agreement: float | None = None


@attrs.frozen(kw_only=True, eq=False)
class RoundTrip:
    """Both directions, leg by leg.

    Attributes:
        given: ``text`` or ``image``, where it starts.
        text: the caption that is given, or read off the image that is.
        image: the picture drawn from the text, or the one that is given, as the model reads it.
        back: the caption read off the picture, or the picture drawn from the caption.
        log_p: log p(caption | image) in nats of the caption that was read.
        returned: from a text: the caption that comes back is the one that went in, but for spaces and case; from an image None.
    """

    given: str
    text: str
    image: Any
    back: Any
    log_p: float
    returned: bool | None = None

    def legs(self) -> Iterator[tuple[str, Any]]:
        """What is where on the way: (``text`` or ``image``, the thing itself), three of them."""
        here, there = ("text", "image") if self.given == "text" else ("image", "text")
        yield here, self.text if here == "text" else self.image
        yield there, self.image if there == "image" else self.text
        yield here, self.back


@attrs.frozen
class Found:
    """A picture that a search found.

    Attributes:
        image: its path, or the picture itself where it came from a list.
        number: its place in the list or the folder.
        agreement: how near its latent is to the text's, in [−1, 1].
    """

    image: str | os.PathLike[str] | Any
    number: int
    agreement: float


def alike(drawn: Any) -> str:
    """Of drawings (b k h w c), k of each text: a sentence where all of every text are equal to the last bit; else empty."""
    if not len(drawn) or len(drawn[0]) < 2 or any((one != each[0]).any() for each in drawn for one in each[1:]):
        return ""
    return f"all {len(drawn[0])} drawings of a text are equal: this model draws the same picture for every seed"
