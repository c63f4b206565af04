"""A trained model, opened: ``m = ibllm.open("runs/joint")``, then ``m.generate(…)``, ``m.caption(…)``. Torch-free to import."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ibllm_core.errors import Notice, UserError
from ibllm_core.runs.directory import RunDirectory, read_json

from .answers import RoundTrip, Score
from .arguments import Seeds, Texts, as_seeds, as_texts, at_least_one, is_file, picture, same_number
from .opened import Opened
from .pictures import Picture, listed, pixels

if TYPE_CHECKING:
    from ibllm_core.recipe.schema import Recipe

__all__ = ["Run", "Trained"]

Images: TypeAlias = "Picture | Sequence[Picture]"
Floats = npt.NDArray[np.float32]


class Trained(Opened):
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
        from . import use

        given, one = as_texts(texts)
        options = {"guidance": guidance, "temperature": temperature, "steps": steps, **live}
        at_least_one(n=n, best_of=best_of)
        with self.computing(**options) as model:
            captions = self._checked(given)
            seeds, drawings = as_seeds(seed, len(captions)), max(n, best_of)
            keys = [use.text_keys(captions, seeds, number) for number in range(drawings)]
            drawn = np.stack([model.generate(captions, numbers=rows, batch=use.BATCH) for rows in keys], 1)
            if best_of > 1:
                drawn = self._best(drawn, captions, by)[:, :n]
        found = [[picture(image, output) for image in images] for images in drawn]
        if n == 1:
            return found[0][0] if one else [images[0] for images in found]
        return found[0] if one else found

    def _best(self, drawn: npt.NDArray[np.uint8], captions: list[str], by: str) -> npt.NDArray[np.uint8]:
        """drawn (b k h w c), the best of each text first."""
        from . import use

        if by != "reading":
            raise UserError(f"by = {by!r}: expected 'reading'")
        b, k = drawn.shape[:2]
        scores = use.text_log_p(self.model, drawn.reshape(-1, *drawn.shape[2:]), [text for text in captions for _ in range(k)])
        order = np.argsort(-scores.reshape(b, k), axis=1, kind="stable")
        return np.take_along_axis(drawn, order[:, :, None, None, None], axis=1)

    def caption(
        self,
        images: Images,
        *,
        seed: Seeds = 0,
        temperature: float = 0.0,
        top_p: float = 1.0,
        beams: int | None = None,
        length_exponent: float | None = None,
    ) -> Any:
        """Writes a caption for each image.

        Args:
            seed: of chance, one for all or one an image.
            temperature: 0 takes the likeliest word each time; otherwise words are drawn within the nucleus `top_p`.
            beams, length_exponent: of the search for the likeliest text, by default as the recipe says.
        """
        how = {"temperature": temperature, "top_p": top_p, "beams": beams, "length_exponent": length_exponent}
        return self._written(images, seed, how)

    def ask(self, images: Images, *, seed: Seeds = 0, temperature: float = 1.0, **how: Any) -> Any:
        """Invents a question about each image; `how` is as for `caption`."""
        return self._written(images, seed, {"asks": True, "temperature": temperature, **how})

    def _written(self, images: Images, seed: Seeds, how: dict[str, Any]) -> Any:
        from . import use

        given, one = listed(images)
        with self._lock:
            read = self.pixels(given)
            keys = use.image_keys(read, as_seeds(seed, len(read)))
            texts = self.model.caption(read, numbers=keys, batch=use.BATCH, **how)
        return texts[0] if one else texts

    def answer(self, images: Images, questions: Texts, *, seed: Seeds = 0, **how: Any) -> Any:
        """Answers a question about each image; one question for all of them, or one for each. `how` is as for `caption`."""
        from . import use

        given, one = listed(images)
        asked, single = as_texts(questions)
        with self._lock:
            read = self.pixels(given)
            texts = self._checked(asked, "text_decoder")
            texts = texts * len(read) if single else texts
            same_number(images=read, questions=texts)
            keys = use.image_keys(read, as_seeds(seed, len(read)))
            found = self.model.caption(read, questions=texts, numbers=keys, batch=use.BATCH, **how)
        return found[0] if one and single else found

    def score(self, images: Images, texts: Texts, *, seed: int = 0) -> Any:
        """How well each image and its text belong together (`Score`); one of either stands with all of the others."""
        from . import use

        given, one = listed(images)
        said, single = as_texts(texts)
        with self._lock:
            model, read, captions = self.model, self.pixels(given), self._checked(said)
            read = np.repeat(read, len(captions), 0) if one else read
            captions = captions * len(read) if single else captions
            same_number(images=read, texts=captions)
            reads = {"image_encoder", "text_decoder"} <= set(model.parts)
            by_text = use.text_log_p(model, read, captions) if reads else [None] * len(read)
        found = [Score(text_given_image=None if one is None else float(one)) for one in by_text]
        return found[0] if one and single else found

    def roundtrip(self, given: Texts | Images, *, seed: Seeds = 0, output: str = "pil") -> Any:
        """Text → image → text, or image → text → image, for each (`RoundTrip`). A string is a path where there is such a file, else a text."""
        from . import use

        one = isinstance(given, str) or listed(given)[1]
        items = [given] if isinstance(given, str) else listed(given)[0]
        texts = [isinstance(item, str) and not is_file(item) for item in items]
        if any(texts) != all(texts):
            raise UserError("texts and images in one list: expected one of the two")
        kind = "text" if any(texts) else "image"
        with self._lock:
            if kind == "text":
                captions = self._checked(items)
                drawn = self.generate(captions, seed=seed, output="numpy")
                read = self.caption(drawn, seed=seed)
            else:
                drawn = list(self.pixels(items))
                captions = read = self.caption(drawn, seed=seed)
                back = self.generate(captions, seed=seed, output="numpy")
            shown = np.stack(drawn) if drawn else self.pixels([])
            log_p = use.text_log_p(self.model, shown, read)
        found = []
        for number, text in enumerate(captions):
            came = read[number] if kind == "text" else picture(back[number], output)
            same = read[number].casefold() == text.casefold() if kind == "text" else None
            image = picture(drawn[number], output)
            found.append(RoundTrip(given=kind, text=text, image=image, back=came, log_p=float(log_p[number]), returned=same))
        return found[0] if one else found

    def encode_text(self, texts: Texts) -> Floats:
        """E_x's pooled latent of each text: (d), or (b d) of a list."""
        from . import use

        given, one = as_texts(texts)
        with self._lock:
            found = use.encode_text(self.model, self._checked(given))
        return found[0] if one else found

    def encode_image(self, images: Images) -> Floats:
        """E_y's pooled latent of each image: (d), or (b d) of a list."""
        from . import use

        given, one = listed(images)
        with self._lock:
            found = use.encode_image(self.model, self.pixels(given))
        return found[0] if one else found

    def pixels(self, images: Images) -> npt.NDArray[np.uint8]:
        """Pictures as the model reads them: (b h w c) uint8. One picture is a list of one here."""
        from ibllm_core.model import build

        return pixels(listed(images)[0], build.image_shape(self.recipe), self.fit)

    def remarks(self, texts: Texts, part: str = "text_encoder") -> list[str]:
        """What the model cannot know of some texts, or leaves out of them, a sentence each; what other methods warn of."""
        from . import use

        with self._lock:
            return use.remarks(self.model, use.checked(self.model, as_texts(texts)[0], part), part)

    def _checked(self, texts: list[Any], part: str = "text_encoder") -> list[str]:
        from . import use

        found = use.checked(self.model, texts, part)
        for remark in use.remarks(self.model, found, part):
            warnings.warn(Notice(remark), stacklevel=3)
        return found


class Run(Trained):
    """A finished (or unfinished) run, opened: a trained model with its record and its results.

    Example:
        >>> run = ibllm.open("runs/joint")                        # doctest: +SKIP
        >>> run.results["test/scene_exact"]                       # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str], device: str | None = None) -> None:
        super().__init__(path, device)
        self.directory = RunDirectory(self.path)
        if not self.directory.recipe.is_file():
            raise UserError(f"{path} is no run directory: it holds no recipe.toml")

    @property
    def folder(self) -> Path:
        return self.directory.model

    @property
    def info(self) -> dict[str, Any]:
        """What run.json says."""
        found: dict[str, Any] = self._once("info", self.directory.info)
        return found

    def _read_recipe(self) -> Recipe:
        """The recipe as it was resolved when the run started."""
        from .opening import load_run

        return load_run(self.directory)

    @property
    def results(self) -> dict[str, float]:
        """The flat table of figures. Raises `UserError` where the run has not got so far."""
        found = read_json(self.directory.results)
        if found is None:
            raise UserError(f"{self.path} has no results yet; go on with it: ibllm run {self.path} --resume")
        return found
