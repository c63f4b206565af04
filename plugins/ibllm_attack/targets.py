"""What is attacked, item by item, by asking the model alone: an image that is read, or the embeddings of a caption that is drawn and read back.

Shapes: b batch, h w c image, t tokens of a caption, e embedding width, v vocabulary, r s rows and columns of patches, g groups of embedding numbers,
k numbers of an action.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibllm_core.errors import UserError
from ibllm_core.interfaces.batch import take, to_images, to_pixels, to_tokens, told
from ibllm_core.interfaces.dataset import Samples
from ibllm_core.interfaces.image import ImageEncoder
from ibllm_core.interfaces.latent import Latent, Tokens, at_least_float32
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.randomness import derive_key
from ibllm_core.interfaces.text import TextDecoder, TextEncoder

if TYPE_CHECKING:
    from ibllm.trained import Trained
    from ibllm_core.model.model import Model

Array = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
#: What an item's loss is taken of: the data's caption, or what the model itself reads off the clean item.
REFERENCES = ("caption", "reading")


@attrs.frozen(eq=False)
class Judged:
    """What the model makes of some items: `loss` (b) in nats, and whether it now says something else than the reference, `fooled` (b)."""

    loss: npt.NDArray[np.float64]
    fooled: Bools


class Target(Protocol):
    """Items that can be perturbed, each an array of one shape.

    Attributes:
        shape: of an item.
        low, high: what a number of an item may be.
        actions: k, numbers of an action.
    """

    shape: tuple[int, ...]
    low: float
    high: float
    actions: int

    def __len__(self) -> int:
        """How many items there are."""

    def clean(self, rows: Rows) -> Array:
        """(b ...) items as they are."""

    def bound(self, rows: Rows, epsilon: float) -> Array:
        """(b) the most that a number of each item may change under `epsilon`. Raises `ValueError` where that is nothing."""

    def spread(self, actions: Array) -> Array:
        """(b k) in [−1, 1] → (b ...) the change that each number gets."""

    def judge(self, x: Array, rows: Rows) -> Judged:
        """What the model makes of perturbed items (b ...); one forward pass a batch."""

    def rounded(self, x: Array) -> Array:
        """The items as they can be: whole levels of an image."""

    def picture(self, x: Array, row: int) -> npt.NDArray[np.uint8]:
        """(h w 3) an item to look at."""


class ImageTarget:
    """Images of a split, attacked so that they are read as something else. The loss is −log p(reference | image).

    Args:
        opened: a trained model with an image encoder and a text decoder.
        split: of its data.
        items: the first so many of it; those that the model reads as something else than the reference by themselves are passed over.
        patch: height and width of the squares that an action changes, in pixels.
        reference: one of `REFERENCES`.

    Raises:
        UserError: there is no such split, the patch does not divide the image, or the model reads none of the items as its caption.
    """

    low, high = 0.0, 255.0
    shape: tuple[int, ...]
    images: npt.NDArray[np.uint8]
    readers: Readers

    def __init__(self, opened: Trained, split: str, items: int, patch: int = 8, reference: str = "caption") -> None:
        self._take(opened, first_items(opened, split, items), patch)
        if is_reading(reference):
            with self.model.inference():
                self.readers.take_readings(self.encoder(to_images(self.images).to(self.model.device)))
        self.indices = right_at_first(self, np.arange(len(self.images)), split, reference)
        self.images, self.readers = self.images[self.indices], self.readers.only(self.indices)

    @classmethod
    def of_samples(cls, opened: Trained, samples: Samples, patch: int = 8) -> ImageTarget:
        """Given items, all of them, held against their captions."""
        found = cls.__new__(cls)
        found._take(opened, samples, patch)
        found.indices = np.arange(len(found.images))
        return found

    def _take(self, opened: Trained, samples: Samples, patch: int) -> None:
        self.model = opened.model
        self.encoder = cast(ImageEncoder, self.model.part("image_encoder"))
        c, h, w = self.model.image_shape
        if h % patch or w % patch:
            raise UserError(f"patch = {patch}: expected a divisor of the image's height and width, {h}×{w}")
        self.shape, self.patch, self.grid = (h, w, c), patch, (h // patch, w // patch)
        self.actions = self.grid[0] * self.grid[1] * c
        self.images = np.asarray(samples.images)
        self.readers = Readers(self.model, samples.captions or (), samples.languages)

    def __len__(self) -> int:
        return len(self.images)

    def clean(self, rows: Rows) -> Array:
        return self.images[rows].astype(np.float32)

    def bound(self, rows: Rows, epsilon: float) -> Array:
        """(b) `epsilon`, a share of the range from black to white, in whole levels."""
        levels = np.floor(epsilon * 255 + 1e-6)
        if levels < 1:
            raise ValueError(f"epsilon = {epsilon}: expected at least 1/255, one level of an image")
        return np.full(len(rows), levels, np.float32)

    def spread(self, actions: Array) -> Array:
        patches = actions.reshape(len(actions), *self.grid, self.shape[-1])
        found: Array = patches.repeat(self.patch, 1).repeat(self.patch, 2)
        return found

    def judge(self, x: Array, rows: Rows) -> Judged:
        with self.model.inference():
            z = self.encoder(to_images(self.rounded(x).astype(np.uint8)).to(self.model.device))
            return self.readers.judge(z, rows)

    def rounded(self, x: Array) -> Array:
        return np.rint(x)

    def picture(self, x: Array, row: int) -> npt.NDArray[np.uint8]:
        return in_colour(x.astype(np.uint8))


class EmbeddingTarget:
    """Embeddings of captions, attacked so that what is drawn is read as something else. The loss is −log p(reference | drawing).

    Args:
        opened: a trained model with all four parts.
        split, items, reference: as for `ImageTarget`; the model's own reading is that of the drawing of the clean caption.
        groups: g, of the embedding's numbers: an action moves each group of each token by one number.

    Raises:
        UserError: as `ImageTarget`.
    """

    low, high = -np.inf, np.inf

    def __init__(self, opened: Trained, split: str, items: int, groups: int = 4, reference: str = "caption") -> None:
        self.model, self.seed = opened.model, derive_key(opened.recipe.seed.evaluation, split)
        self.encoder = cast(TextEncoder, self.model.part("text_encoder"))
        self.reader = cast(ImageEncoder, self.model.part("image_encoder"))
        found = first_items(opened, split, items)
        said = list(found.captions or ())
        self.tokens = to_tokens(self.model.tokenizers["text_encoder"], said).to(self.model.device)
        with self.model.inference():
            embedded = at_least_float32(self.encoder.embed(self.tokens.ids))
        self.embedded: Array = embedded.cpu().numpy().astype(np.float32)
        self.shape = self.embedded.shape[1:]
        self.groups = groups
        if self.shape[1] % groups:
            raise UserError(f"groups = {groups}: expected a divisor of the embedding's width, {self.shape[1]}")
        self.actions = self.shape[0] * groups
        self.numbers = np.asarray(found.indices)
        self.readers = Readers(self.model, said, found.languages)
        if is_reading(reference):
            with self.model.inference():
                self.readers.take_readings(self.reader(self._drawn(self.embedded, np.arange(len(said)))))
        self.indices = right_at_first(self, np.arange(len(said)), split, reference)
        self.embedded, self.numbers = self.embedded[self.indices], self.numbers[self.indices]
        self.tokens, self.readers = rows_of(self.tokens, self.indices), self.readers.only(self.indices)

    def __len__(self) -> int:
        return len(self.embedded)

    def clean(self, rows: Rows) -> Array:
        return self.embedded[rows]

    def bound(self, rows: Rows, epsilon: float) -> Array:
        """(b) `epsilon` times the root mean square of the numbers of an item's tokens."""
        mask = self.tokens.mask.cpu().numpy()[rows]
        squares = (self.embedded[rows].astype(np.float64) ** 2).mean(-1) * mask
        return (epsilon * np.sqrt(squares.sum(1) / mask.sum(1))).astype(np.float32)

    def spread(self, actions: Array) -> Array:
        found: Array = actions.reshape(len(actions), self.shape[0], self.groups).repeat(self.shape[1] // self.groups, 2)
        return found

    def judge(self, x: Array, rows: Rows) -> Judged:
        with self.model.inference():
            return self.readers.judge(self.reader(self._drawn(x, rows)), rows)

    def _drawn(self, x: Array, rows: Rows) -> Tensor:
        """(b c h w) drawings, as pixels have them; the noise is the item's own, that of `Evaluation.generated`."""
        mask = self.tokens.mask[torch.from_numpy(rows).to(self.tokens.mask.device)]
        z = self.encoder.encode(torch.from_numpy(x).to(self.model.device), mask)
        drawn = self.model.sample_image(z, Rng((self.seed, "generate"), self.numbers[rows], self.model.device))
        return to_images(to_pixels(drawn)).to(self.model.device)

    def rounded(self, x: Array) -> Array:
        return x

    def picture(self, x: Array, row: int) -> npt.NDArray[np.uint8]:
        with self.model.inference():
            return in_colour(to_pixels(self._drawn(x[None], np.array([row])))[0])


class Readers:
    """A text decoder that is asked how likely references are, and whether it would write them."""

    def __init__(self, model: Model, texts: Sequence[str], languages: Sequence[str] | None) -> None:
        self.model, self.decoder = model, cast(TextDecoder, model.part("text_decoder"))
        self.tokens = to_tokens(model.tokenizers["text_decoder"], texts).to(model.device)
        spoken = languages if "language" in model.tokenizers else None
        self.prefix = None if spoken is None else told(model.tokenizers["language"], spoken).to(model.device)

    def only(self, rows: Rows) -> Readers:
        """The same for some items."""
        found = object.__new__(Readers)
        found.model, found.decoder, found.tokens = self.model, self.decoder, rows_of(self.tokens, rows)
        found.prefix = None if self.prefix is None else rows_of(self.prefix, rows)
        return found

    def take_readings(self, z: Latent) -> None:
        """Makes what the decoder itself writes the references; an end that it was forced to counts for nothing."""
        tokens = self.decoder.sample(z, prefix=self.prefix)
        forced = tokens.lengths() == self.decoder.max_length
        tokens.mask[:, -1] &= ~forced if tokens.mask.shape[1] == self.decoder.max_length else True
        self.tokens = tokens

    def judge(self, z: Latent, rows: Rows) -> Judged:
        """Within `Model.inference`. A text is what is written greedily where every token is the likeliest after those before it."""
        tokens = rows_of(self.tokens, rows)
        if self.prefix is not None:
            prefix = rows_of(self.prefix, rows)
            loss, written = self.decoder.nll(tokens, z, prefix), self.decoder.sample(z, prefix=prefix)
            texts, wanted = (self.model.tokenizers["text_decoder"].decode(some.ids.cpu().numpy()) for some in (written, tokens))
            return Judged(loss.double().cpu().numpy(), np.array([a != b for a, b in zip(texts, wanted, strict=True)]))
        loss = self.decoder.nll(tokens, z)
        logits = self.decoder.logits(tokens.ids[:, :-1], tokens.mask[:, :-1], z)
        other = (logits.argmax(-1) != tokens.ids[:, 1:]) & tokens.mask[:, 1:]
        return Judged(loss.double().cpu().numpy(), other.any(1).cpu().numpy())


def rows_of(tokens: Tokens, rows: Rows) -> Tokens:
    """The texts of some items."""
    which = torch.from_numpy(rows).to(tokens.ids.device)
    return Tokens(tokens.ids[which], tokens.mask[which])


def first_items(opened: Trained, split: str, items: int) -> Samples:
    """The first items of a split. Raises `UserError` where there is no such split, or it has no captions or images."""
    sizes = opened.dataset.sizes()
    if split not in sizes:
        raise UserError(f"split = {split!r}: expected one of {', '.join(sizes)}")
    found = take(opened.dataset, split, np.arange(min(items, sizes[split]), dtype=np.int64))
    if found.captions is None or found.images is None:
        raise UserError(f"the split {split} has no pairs of captions and images, so nobody knows what is damage")
    return found


def is_reading(reference: str) -> bool:
    """Whether the references are the model's own. Raises `UserError` for a word that is none of `REFERENCES`."""
    if reference not in REFERENCES:
        raise UserError(f"reference = {reference!r}: expected one of {', '.join(REFERENCES)}")
    return reference == "reading"


def right_at_first(target: Target, rows: Rows, split: str, reference: str, batch: int = 64) -> Rows:
    """The items that the model reads as the reference before anything is done to them. Raises `UserError` where there are none."""
    parts = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    fooled = np.concatenate([target.judge(target.clean(part), part).fooled for part in parts])
    if fooled.all():
        helps = '; reference = "reading" attacks what the model itself reads' if reference == "caption" else ""
        raise UserError(
            f"the model reads none of the {len(rows)} items of the split {split} as its {reference}: nothing is left to damage{helps}"
        )
    return rows[~fooled]


def in_colour(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(h w c) → (h w 3)."""
    return image if image.shape[-1] == 3 else image[..., :1].repeat(3, -1)
