"""What an opened model writes about images: captions, questions, answers. Torch-free to import. Shapes: h w c an image, b images."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypedDict, Unpack, overload

import numpy as np
import numpy.typing as npt

from ibllm_core.errors import Notice, UserError

from .answers import Written
from .arguments import Seeds, Texts, as_seeds, as_texts, at_least_one, language_of, same_number, writing
from .blocks.ends import told_of_ends
from .cropping import cut_off
from .opened import Opened
from .pictures import Picture, listed, pixels

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Images", "OneImage", "Pixels", "SomeImages", "Writer", "Writing"]

Pixels = npt.NDArray[np.uint8]
Images: TypeAlias = "Picture | Sequence[Picture]"
#: One image for certain, and several: an array or a tensor may be either.
OneImage: TypeAlias = "Image | str | os.PathLike[str] | BinaryIO | bytes"
SomeImages: TypeAlias = "list[Any] | tuple[Any, ...]"


class Writing(TypedDict, total=False):
    """How a text is written; see `Trained.caption`."""

    language: str | None
    seed: Seeds
    temperature: float
    top_p: float
    beams: int | None
    length_exponent: float | None


class Writer(Opened):
    """What `Trained` does with images in and texts out."""

    @overload
    def caption(self, images: OneImage, **how: Unpack[Writing]) -> str: ...

    @overload
    def caption(self, images: SomeImages, **how: Unpack[Writing]) -> list[str]: ...

    @overload
    def caption(self, images: Images, **how: Unpack[Writing]) -> str | list[str]: ...

    def caption(
        self,
        images: Images,
        *,
        language: str | None = None,
        seed: Seeds = 0,
        temperature: float = 0.0,
        top_p: float = 1.0,
        beams: int | None = None,
        length_exponent: float | None = None,
    ) -> str | list[str]:
        """Writes a caption for each image.

        Args:
            language: to write in, one that the captioner is told in training (its option `languages`); left out, it writes in whichever is likeliest.
            seed: of chance, one for all or one an image.
            temperature: 0 takes the likeliest word each time; otherwise words are drawn within the nucleus `top_p`.
            beams, length_exponent: of the search for the likeliest text, by default as the recipe says.
        """
        how = {"temperature": temperature, "top_p": top_p, "beams": beams, "length_exponent": length_exponent}
        return self._written(images, seed, how | {"language": language_of(self.recipe, language)})

    @overload
    def ask(self, images: OneImage, **how: Unpack[Writing]) -> str: ...

    @overload
    def ask(self, images: SomeImages, **how: Unpack[Writing]) -> list[str]: ...

    @overload
    def ask(self, images: Images, **how: Unpack[Writing]) -> str | list[str]: ...

    def ask(self, images: Images, *, seed: Seeds = 0, temperature: float = 1.0, top_p: float = 0.9, **how: Any) -> str | list[str]:
        """Invents a question about each image, drawn within the nucleus `top_p`; `how` is as for `caption`."""
        self.require_questions()
        return self._written(images, seed, {"asks": True, "temperature": temperature, "top_p": top_p, **how})

    def _written(self, images: Images, seed: Seeds, how: dict[str, Any]) -> str | list[str]:
        from . import use

        given, one = listed(images)
        seeds = as_seeds(seed, len(given))
        with self._lock, told_of_ends():
            read = self.pixels(given)
            keys = use.image_keys(read, seeds)
            languages = use.for_each(how.pop("language", None), len(read))
            texts = self.model.caption(read, languages=languages, numbers=keys, batch=use.BATCH, **writing(how))
        return texts[0] if one else texts

    @overload
    def answer(self, images: OneImage, questions: str, **how: Unpack[Writing]) -> str: ...

    @overload
    def answer(self, images: SomeImages, questions: Texts, **how: Unpack[Writing]) -> list[str]: ...

    @overload
    def answer(self, images: Images, questions: Texts, **how: Unpack[Writing]) -> str | list[str]: ...

    def answer(self, images: Images, questions: Texts, *, seed: Seeds = 0, **how: Any) -> str | list[str]:
        """Answers a question about each image; one question for all of them, or one for each. `how` is as for `caption`."""
        from . import use

        self.require_questions()
        given, one = listed(images)
        asked, single = as_texts(questions)
        seeds = as_seeds(seed, len(given))
        with self._lock, told_of_ends():
            read = self.pixels(given)
            texts = self.as_read(asked, "text_decoder")
            texts = texts * len(read) if single else texts
            same_number(images=read, questions=texts)
            keys = use.image_keys(read, seeds)
            found = self.model.caption(read, questions=texts, numbers=keys, batch=use.BATCH, **writing(how))
        return found[0] if one and single else found

    @overload
    def captions(self, images: OneImage, n: int, **how: Unpack[Writing]) -> list[Written]: ...

    @overload
    def captions(self, images: SomeImages, n: int, **how: Unpack[Writing]) -> list[list[Written]]: ...

    @overload
    def captions(self, images: Images, n: int, **how: Unpack[Writing]) -> list[Written] | list[list[Written]]: ...

    def captions(
        self,
        images: Images,
        n: int,
        *,
        language: str | None = None,
        seed: Seeds = 0,
        temperature: float = 0.0,
        top_p: float = 1.0,
        beams: int | None = None,
        length_exponent: float | None = None,
    ) -> list[Written] | list[list[Written]]:
        """The `n` best captions of each image that a search finds, the best first: a list of `Written`, or one for each image.

        With a `temperature` they are the different ones of `n` draws. There are fewer where no more were found.
        """
        from . import use

        given, one = listed(images)
        at_least_one(n=n)
        writing({"temperature": temperature, "top_p": top_p, "beams": beams, "length_exponent": length_exponent})
        seeds = as_seeds(seed, len(given))
        if temperature and beams is not None and beams > 1:
            raise UserError(f"temperature = {temperature}, beams = {beams}: expected one of the two")
        with self._lock, told_of_ends():
            model, read = self.model, self.pixels(given)
            keys = np.stack([use.image_keys(read, seeds, number) for number in range(n if temperature else 1)])
            exponent = model.length_exponent if length_exponent is None else length_exponent
            followed = model.beams if beams is None else beams
            found = use.captions(model, read, keys, n, followed, exponent, temperature, top_p, language_of(self.recipe, language))
        return found[0] if one else found

    def pixels(self, images: Images, *, outside: list[float] | None = None) -> Pixels:
        """Pictures as the model reads them: (b h w c) uint8. One picture is a list of one here.

        Args:
            outside: takes the share of each picture that is cut off; by default much of it is told by a warning, `Notice`.
        """
        from ibllm_core.model import build

        given, shares = listed(images)[0], list[float]() if outside is None else outside
        found = pixels(given, build.image_shape(self.recipe), self.fit, shares=shares)
        if outside is None and (said := cut_off(shares)):
            warnings.warn(Notice(said), stacklevel=3)
        return found

    def remarks(self, texts: Texts, part: str = "text_encoder") -> list[str]:
        """What the model cannot know of some texts, or leaves out of them, a sentence each; what other methods warn of."""
        from . import use

        with self._lock:
            return use.as_read(self.model, as_texts(texts)[0], part)[1]

    def as_read(self, texts: Sequence[str], part: str = "text_encoder") -> list[str]:
        """Texts as a part reads them: single spaces, and in lower case where the model knows their words so alone; what `remarks` gives is told."""
        from . import use

        with self._lock:
            found, said = use.as_read(self.model, as_texts(texts)[0], part)
        for remark in said:
            warnings.warn(Notice(remark), stacklevel=3)
        return found
