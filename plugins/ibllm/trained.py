"""A trained model, opened: ``m = ibllm.open("runs/joint")``, then ``m.generate(…)``, ``m.caption(…)``. Torch-free to import."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from ibllm_core.errors import Notice, UserError, system_error

from .answers import Found, RoundTrip, Score, alike
from .arguments import Seeds, Texts, a_path, as_seeds, as_texts, at_least_one, is_file, picture, same_number
from .blocks.ends import told_of_ends
from .pictures import Picture, listed
from .writer import Images, OneImage, Pixels, SomeImages, Writer

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Trained"]

Floats = npt.NDArray[np.float32]


class Trained(Writer):
    """A trained model, ready to use.

    One item in gives one out, a list a list. Images may be Pillow's, arrays (h w c), tensors (c h w), paths or open files, of any size and mode. The same seed
    gives the same result, whatever else is in the list and whichever device computes, but for rounding. Threads may share one: they take turns.

    What a model cannot know (a word that it never saw) or leaves out (the end of a text) is told by a warning, `Notice`.

    Args:
        path: a run directory, its ``model/`` folder, or a folder that `save_pretrained` wrote.
        device: where its model goes; by default where it was trained, if there is such a device here.

    Example:
        >>> m = ibllm.open("runs/joint")                                     # doctest: +SKIP
        >>> m.generate("a small red circle at the top left").save("a.png")   # doctest: +SKIP
        >>> m.caption(["a.png", "b.jpg"])                                    # doctest: +SKIP
    """

    @overload
    def generate(self, texts: str, *, n: Literal[1] = 1, output: Literal["pil"] = "pil", **options: Any) -> Image: ...

    @overload
    def generate(self, texts: str, *, n: Literal[1] = 1, output: Literal["numpy"], **options: Any) -> Pixels: ...

    @overload
    def generate(
        self, texts: list[str] | tuple[str, ...], *, n: Literal[1] = 1, output: Literal["pil"] = "pil", **options: Any
    ) -> list[Image]: ...

    @overload
    def generate(self, texts: Texts, *, n: int = 1, output: str = "pil", **options: Any) -> Any: ...

    def generate(
        self,
        texts: Texts,
        *,
        n: int = 1,
        seed: Seeds = 0,
        best_of: int = 1,
        by: str = "reading",
        guidance: float | None = None,
        temperature: float | None = None,
        steps: int | None = None,
        output: str = "pil",
        **live: Any,
    ) -> Any:
        """Draws each text.

        Args:
            n: pictures a text; with more than one, a list for each text.
            seed: of the noise, one for all or one a text.
            best_of: pictures that are drawn, of which the `n` best are given, the best first.
            by: what is best: ``reading``, log p(text | picture) of the model's own reading, or ``agreement`` of the latents.
            guidance, temperature, steps: instead of the image decoder's own options, where it has such; any other of its `live_options` likewise.
            output: ``pil``, or ``numpy`` for arrays (h w c) uint8.

        Raises:
            UserError: a text is empty, or an option is one that the decoder does not have.
        """
        given, one = as_texts(texts)
        options = {"guidance": guidance, "temperature": temperature, "steps": steps, **live}
        at_least_one(n=n, best_of=best_of)
        seeds = as_seeds(seed, len(given))
        with self.computing(**options):
            captions = self.as_read(given)
            drawn = self._drawn(captions, seeds, max(n, best_of))
        if best_of > 1:
            drawn = self._best(drawn, captions, by)[:, :n]
        elif n > 1 and (same := alike(drawn)):
            warnings.warn(Notice(same), stacklevel=2)
        found = [[picture(image, output) for image in images] for images in drawn]
        if n == 1:
            return found[0][0] if one else [images[0] for images in found]
        return found[0] if one else found

    def _drawn(self, captions: list[str], seeds: list[int], count: int = 1) -> Pixels:
        """(b count h w c) drawings of b captions, within `computing`."""
        from . import use

        keys = [use.text_keys(captions, seeds, number) for number in range(count)]
        return np.stack([self.model.generate(captions, numbers=rows, batch=use.BATCH) for rows in keys], 1)

    def _best(self, drawn: Pixels, captions: list[str], by: str) -> Pixels:
        """drawn (b k h w c), the best of each text first."""
        from . import use

        if by not in ("reading", "agreement"):
            raise UserError(f"by = {by!r}: expected 'reading' or 'agreement'")
        b, k = drawn.shape[:2]
        flat = drawn.reshape(-1, *drawn.shape[2:])
        with self._lock:
            if by == "agreement":
                space = self.space
                scores = (np.repeat(space.texts(captions), k, 0) * space.images(flat)).sum(1)
            else:
                scores = use.text_log_p(self.model, flat, [text for text in captions for _ in range(k)])
        order = np.argsort(-scores.reshape(b, k), axis=1, kind="stable")
        return np.take_along_axis(drawn, order[:, :, None, None, None], axis=1)

    @overload
    def score(self, images: OneImage, texts: str, *, seed: Seeds = 0, draws: int = 16) -> Score: ...

    @overload
    def score(self, images: SomeImages, texts: Texts, *, seed: Seeds = 0, draws: int = 16) -> list[Score]: ...

    @overload
    def score(self, images: Images, texts: Texts, *, seed: Seeds = 0, draws: int = 16) -> Score | list[Score]: ...

    def score(self, images: Images, texts: Texts, *, seed: Seeds = 0, draws: int = 16) -> Score | list[Score]:
        """How well each image and its text belong together (`Score`); one of either stands with all of the others.

        Args:
            seed: of the noise of a bound of log p(image | text).
            draws: of that noise, whose mean is given.
        """
        from . import use

        given, one = listed(images)
        said, single = as_texts(texts)
        at_least_one(draws=draws)
        as_seeds(0 if isinstance(seed, list | tuple) else seed, 1)
        with self._lock:
            model, read, captions = self.model, self.pixels(given), self.as_read(said)
            read = np.repeat(read, len(captions), 0) if one else read
            captions = captions * len(read) if single else captions
            same_number(images=read, texts=captions)
            kind, parts = self.image_likelihood, set(model.parts)
            by_text, by_image, agreement = [None] * len(read), [None] * len(read), [None] * len(read)
            if {"image_encoder", "text_decoder"} <= parts:
                by_text = use.text_log_p(model, read, captions).tolist()
            if kind is not None:
                seeds, repeats = as_seeds(seed, len(read)), draws if kind == "bound" else 1
                every = [use.image_log_p(model, read, captions, use.text_keys(captions, seeds, number)) for number in range(repeats)]
                by_image = np.mean(every, 0).tolist()
            if self.agrees_by is not None:
                agreement = (self.space.texts(captions) * self.space.images(read)).sum(1).tolist()
        of = model.works_on if kind else None
        rows = zip(by_text, by_image, agreement, strict=True)
        found = [Score(text_given_image=x, image_given_text=y, image_kind=kind, image_of=of, agreement=z) for x, y, z in rows]
        return found[0] if one and single else found

    @overload
    def search(self, images: str | os.PathLike[str] | Sequence[Picture], text: str, k: int = 10) -> list[Found]: ...

    @overload
    def search(
        self, images: str | os.PathLike[str] | Sequence[Picture], text: list[str] | tuple[str, ...], k: int = 10
    ) -> list[list[Found]]: ...

    @overload
    def search(self, images: str | os.PathLike[str] | Sequence[Picture], text: Texts, k: int = 10) -> list[Found] | list[list[Found]]: ...

    def search(self, images: str | os.PathLike[str] | Sequence[Picture], text: Texts, k: int = 10) -> list[Found] | list[list[Found]]:
        """The `k` pictures that are nearest to a text by the model's latents, the nearest first: a list of `Found`, or one for each text.

        Args:
            images: a folder, searched at any depth, or some pictures. Where a folder's pictures lie is kept on disk (`ibllm.hashes.cache_folder`): the next
                search of it reads only those that are new or changed.

        Raises:
            UserError: the model has no space in which texts and images can be compared, or there are no pictures.
        """
        from . import search

        said, one = as_texts(text)
        at_least_one(k=k)
        folder = Path(images) if isinstance(images, str | os.PathLike) else None
        with self._lock:
            space, captions = self.space, self.as_read(said)
            if folder is not None:
                places, points = search.indexed(folder, self.key, self.pixels, space.images)
                things: list[Any] = list(places)
            else:
                things = listed(images)[0]
                points = space.images(self.pixels(things))
            ranks = search.ranked(space.texts(captions), points, k)
        found = [[Found(things[number], number, cosine) for number, cosine in row] for row in ranks]
        return found[0] if one else found

    @overload
    def roundtrip(self, given: OneImage, *, seed: Seeds = 0, output: str = "pil") -> RoundTrip: ...

    @overload
    def roundtrip(self, given: SomeImages, *, seed: Seeds = 0, output: str = "pil") -> list[RoundTrip]: ...

    @overload
    def roundtrip(self, given: Texts | Images, *, seed: Seeds = 0, output: str = "pil") -> RoundTrip | list[RoundTrip]: ...

    def roundtrip(self, given: Texts | Images, *, seed: Seeds = 0, output: str = "pil") -> RoundTrip | list[RoundTrip]:
        """Text → image → text, or image → text → image, for each (`RoundTrip`). A string is a path where there is such a file, else a text."""
        from . import use

        one = isinstance(given, str) or listed(given)[1]
        items = [given] if isinstance(given, str) else listed(given)[0]
        if not items:
            return []
        texts = [isinstance(item, str) and not is_file(item) for item in items]
        if any(texts) != all(texts):
            raise UserError("texts and images in one list: expected one of the two")
        kind = "text" if any(texts) else "image"
        seeds = as_seeds(seed, len(items))
        with self.computing() as model, told_of_ends():
            if kind == "text":
                captions = self.as_read(items)
                drawn = self._drawn(captions, seeds)[:, 0]
                read, log_p = use.read(model, drawn)
                back: list[Any] = list(read)
            else:
                drawn = self.pixels(items)
                read, log_p = use.read(model, drawn)
                captions = read
                back = list(self._drawn(captions, seeds)[:, 0])
        found = []
        for number, text in enumerate(captions):
            came = back[number] if kind == "text" else picture(back[number], output)
            same = read[number].casefold() == text.casefold() if kind == "text" else None
            image = picture(drawn[number], output)
            found.append(RoundTrip(given=kind, text=text, image=image, back=came, log_p=float(log_p[number]), returned=same))
        return found[0] if one else found

    def encode_text(self, texts: Texts) -> Floats:
        """E_x's pooled latent of each text: (d), or (b d) of a list."""
        from . import use

        given, one = as_texts(texts)
        with self._lock:
            found = use.encode_text(self.model, self.as_read(given))
        return found[0] if one else found

    def encode_image(self, images: Images) -> Floats:
        """E_y's pooled latent of each image: (d), or (b d) of a list."""
        from . import use

        given, one = listed(images)
        with self._lock:
            found = use.encode_image(self.model, self.pixels(given))
        return found[0] if one else found

    def save_pretrained(self, folder: str | os.PathLike[str], *, licence: str | None = None) -> Path:
        """Writes the model in Hugging Face's layout: config.json, model.safetensors, README.md (the model card, from the model's own record), recipe and
        tokenizers. `ibllm.from_pretrained` and `ibllm.open` read it.

        Args:
            folder: is made, or was written by this before.
            licence: an SPDX identifier in lower case for the card, by default that of the data where they say it.

        Raises:
            UserError: there is something else already, or it cannot be written.
        """
        from .hub import save

        try:
            return save(self, a_path("folder", folder), licence)
        except OSError as error:
            raise system_error(error) or error from error

    def push_to_hub(
        self, repo: str, *, token: str | None = None, private: bool | None = None, licence: str | None = None, message: str = ""
    ) -> str:
        """Uploads what `save_pretrained` writes to the Hugging Face Hub (extra ``ibllm[hub]``); gives the commit's address.

        Args:
            repo: ``NAME/MODEL``, which is made where there is none.
            token: by default the one that ``hf auth login`` keeps.
            private, licence, message: of the repository, the card, the commit.

        Raises:
            UserError: the library is missing, or the Hub refuses or cannot be reached.
        """
        from .hub import push

        return push(self, repo, token=token, private=private, licence=licence, message=message)
