"""One batch as tensors, and how a dataset's samples become one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..host.attribution import WrongAnswer
from .dataset import Dataset, Samples
from .latent import Tokens
from .noise import on_device
from .tokenizer import BOS, EOS, PAD, Tokenizer


@attrs.frozen(eq=False, kw_only=True)
class Batch:
    """Captions and images of b items; either may be absent (unpaired data).

    Attributes:
        numbers: (b) what keys each item's noise: its place in the iteration over all ranks, or its index in a split.
        x: the caption as E_x's tokenizer reads it.
        x_out: the caption as D_x's tokenizer writes it.
        y: (b c h w) images in [−1, 1]; (b h w c) uint8 until they are on their device (`to`).
        question, answer: for D_x.
        language: the prefix that tells D_x the language of x_out (`told`).
        unpaired_x: captions of other data, as E_x's tokenizer reads them.
        unpaired_y: images of other data.
        groups: (b) int64, which items are of one image (`Samples.groups`).
        x_shift: (b t e) what is added to x's embeddings, where a perturbation says so.
        y_clean, y_perturbed: (b c h w) images before and after a perturbation; y is one of the two.
        keys: (b) int64, the numbers on the device, where an iteration that is captured reads them.
    """

    numbers: npt.NDArray[np.int64]
    x: Tokens | None = None
    x_out: Tokens | None = None
    y: Tensor | None = None
    question: Tokens | None = None
    answer: Tokens | None = None
    language: Tokens | None = None
    unpaired_x: Tokens | None = None
    unpaired_y: Tensor | None = None
    groups: Tensor | None = None
    x_shift: Tensor | None = None
    y_clean: Tensor | None = None
    y_perturbed: Tensor | None = None
    keys: Tensor | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, pixels as images; not waited for."""
        there = self.mapped(lambda values: on_device(values, device))
        return there.mapped(lambda values: to_images(values) if values.dtype == torch.uint8 else values)

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, from where it is copied to an accelerator beside other work; torch's `DataLoader` asks for it."""
        return self.mapped(Tensor.pin_memory)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor changed; what stands in two places is changed once."""
        made: dict[int, Any] = {}
        held = {name: value for name, value in attrs.asdict(self, recurse=False).items() if isinstance(value, Tokens | Tensor)}
        for value in held.values():
            if id(value) not in made:
                made[id(value)] = Tokens(change(value.ids), change(value.mask)) if isinstance(value, Tokens) else change(value)
        return attrs.evolve(self, **{name: made[id(value)] for name, value in held.items()})

    def padded(self, tokenizers: Mapping[str, Tokenizer], to: int = 8) -> Batch:
        """Its captions padded to a multiple of `to` places, as far as their tokenizers go: iterations of few lengths can be captured."""

        def longer(text: Tokens | None, part: str) -> Tokens | None:
            if text is None:
                return None
            t = text.ids.shape[1]
            missing = max(0, min(-(-t // to) * to, tokenizers[part].max_length) - t)
            return Tokens(F.pad(text.ids, (0, missing), value=PAD), F.pad(text.mask, (0, missing))) if missing else text

        x, others = longer(self.x, "text_encoder"), longer(self.unpaired_x, "text_encoder")
        x_out = x if self.x_out is self.x else longer(self.x_out, "text_decoder")
        return attrs.evolve(self, x=x, x_out=x_out, unpaired_x=others)


def take(dataset: Dataset, split: str, indices: npt.NDArray[np.int64], key: str = "data") -> Samples:
    """The items `indices` of a dataset, which gets numbers of its own that it cannot change.

    Args:
        key: the dataset's path in the recipe.

    Raises:
        WrongAnswer: they are not what `Samples` says.
    """
    given = np.array(indices, dtype=np.int64)
    given.flags.writeable = False
    found = dataset.samples(split, given)
    if wrong := _wrong(found, dataset.image_shape, len(given)):
        raise WrongAnswer(key, f"samples({split!r}) gave {wrong}")
    return found


def _wrong(found: object, image_shape: Sequence[int], count: int) -> str:
    """What is wrong with samples of `count` items; empty where nothing is. `image_shape` is (c h w)."""
    if not isinstance(found, Samples):
        return f"a {type(found).__name__}: expected Samples"
    if len(found.indices) != count:
        return f"{len(found.indices)} indices: expected {count}"
    images = found.images
    if images is not None:
        c, h, w = image_shape
        given = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else f"a {type(images).__name__}"
        if given != (wanted := f"uint8 {(count, h, w, c)}"):
            return f"images of {given}: expected an array, {wanted} (b h w c)"
    for name in ("captions", "languages", "questions", "answers"):
        texts = getattr(found, name)
        if texts is not None and (isinstance(texts, str) or len(texts) != count or not all(isinstance(text, str) for text in texts)):
            return f"{name} that are not {count} strings"
    groups = found.groups
    if groups is not None and not (isinstance(groups, np.ndarray) and groups.dtype == np.int64 and groups.shape == (count,)):
        return f"groups that are not an array of {count} int64"
    return ""


def frozen(value: Any) -> Any:
    """A value that many read as one that none can change: arrays read-only, lists as tuples, tables as views; anything else as it is."""
    if isinstance(value, np.ndarray):
        view = value.view()
        view.flags.writeable = False
        return view
    if type(value) in (list, tuple):
        return tuple(map(frozen, value))
    if type(value) is dict:
        return MappingProxyType({key: frozen(one) for key, one in value.items()})
    if type(value) is Samples:
        return Samples(**frozen(attrs.asdict(value, recurse=False)))
    return value


def to_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> Tokens:
    return Tokens(*map(torch.from_numpy, tokenizer.encode(texts)))


def told(tokenizer: Tokenizer, languages: Sequence[str]) -> Tokens:
    """The prefix (b t) of a text decoder that is told which language each text is in: the language's code and a second beginning; of "" nothing.

    No text contains a beginning, so what is told is never mistaken for a part of the text.
    """
    tokens = to_tokens(tokenizer, languages)
    ids, mask = F.pad(tokens.ids, (0, 1), value=PAD), F.pad(tokens.mask, (0, 1))
    rows, lengths = torch.arange(len(ids)), tokens.lengths()
    ends = lengths + (lengths > 2)
    ids[rows, ends - 2], ids[rows, ends - 1], mask[rows, ends - 1] = BOS, EOS, True
    return Tokens(ids, mask)


def to_images(pixels: npt.NDArray[np.uint8] | Tensor) -> Tensor:
    """(b h w c) uint8 → (b c h w) float32 in [−1, 1], where the pixels are."""
    given = pixels if isinstance(pixels, Tensor) else _as_tensor(pixels)
    return given.permute(0, 3, 1, 2).to(torch.float32).mul_(1 / 127.5).sub_(1)


def _as_tensor(pixels: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())  # torch has no tensors that are read-only


def to_pixels(images: Tensor) -> npt.NDArray[np.uint8]:
    """(b c h w) in [−1, 1] → (b h w c) uint8."""
    scaled = images.detach().float().clamp(-1, 1).add(1).mul(127.5).round()
    return scaled.permute(0, 2, 3, 1).contiguous().to(torch.uint8).cpu().numpy()


def collate(
    samples: Samples, tokenizers: Mapping[str, Tokenizer], numbers: npt.NDArray[np.int64], unpaired: Mapping[str, Samples] | None = None
) -> Batch:
    """Samples → tensors.

    Args:
        tokenizers: ``text_encoder`` and ``text_decoder`` → theirs; a part that is absent gets no text. With ``language`` D_x is told each
            caption's language, but for every fourth item, so that it writes unasked, too.
        unpaired: ``text`` → samples whose captions, ``images`` → samples whose images stand in the batch as unpaired.
    """

    def tokens(part: str, texts: Sequence[str] | None) -> Tokens | None:
        return to_tokens(tokenizers[part], texts) if texts is not None and part in tokenizers else None

    nothing, others = Samples(samples.indices[:0]), unpaired or {}
    x, pixels = tokens("text_encoder", samples.captions), others.get("images", nothing).images
    shared = tokenizers.get("text_encoder") is tokenizers.get("text_decoder")
    asks = samples.questions is not None and samples.answers is not None
    spoken = samples.languages if "language" in tokenizers else None
    languages = spoken and [code if number % 4 else "" for code, number in zip(spoken, numbers.tolist(), strict=True)]
    return Batch(
        numbers=numbers,
        x=x,
        x_out=x if shared else tokens("text_decoder", samples.captions),
        y=None if samples.images is None else _as_tensor(samples.images),
        question=tokens("text_decoder", samples.questions) if asks else None,
        answer=tokens("text_decoder", samples.answers) if asks else None,
        language=told(tokenizers["language"], languages) if languages else None,
        unpaired_x=tokens("text_encoder", others.get("text", nothing).captions),
        unpaired_y=None if pixels is None else _as_tensor(pixels),
        groups=None if samples.groups is None else torch.tensor(samples.groups),
    )
