"""What an opened model computes, on lists. Shapes: b batch, d latent width, h w c an image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibllm_core.errors import UserError
from ibllm_core.interfaces.batch import to_images, to_tokens, told
from ibllm_core.interfaces.image import ImageDecoder, ImageEncoder
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.randomness import derive_key
from ibllm_core.interfaces.text import TextDecoder, TextEncoder
from ibllm_core.interfaces.tokenizer import BOS, UNK
from ibllm_core.model.model import Model

from .answers import Written
from .blocks.sampling import best_texts
from .lower_case import in_lower_case
from .vocabulary import SHOWN, unknown

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
#: Items a forward pass.
BATCH = 64


def slices(total: int, size: int = BATCH) -> Iterator[slice]:
    """Consecutive slices of at most `size`."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def text_keys(texts: Sequence[str], seeds: Sequence[int], number: int) -> npt.NDArray[np.int64]:
    """(b) what keys the noise of each text's picture `number`: the same whatever else is in the list."""
    keys = [derive_key("use", seed, text, number) for text, seed in zip(texts, seeds, strict=True)]
    return np.array(keys, np.uint64).view(np.int64)


def image_keys(images: Pixels, seeds: Sequence[int], number: int = 0) -> npt.NDArray[np.int64]:
    """(b) the same for what is written of each image (b h w c)."""
    hashes = [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in images]
    return text_keys(hashes, seeds, number)


def as_read(model: Model, texts: Sequence[object], part: str = "text_encoder") -> tuple[list[str], list[str]]:
    """Texts as `part` reads them, and what it cannot know of them or does with them, a sentence each: words that are read in lower case, words that its
    tokenizer has no id for, texts that are cut.

    Raises:
        UserError: as `checked`.
    """
    given, tokenizer = checked(model, texts, part), model.tokenizers[part]
    read, small = in_lower_case(given, tokenizer)
    found = list[str]()
    if small:
        said = "1 word is" if len(small) == 1 else f"{len(small)} words are"
        found.append(f"{said} known in lower case only, and read so: {_named(small)}")
    if words := unknown(read, tokenizer):
        said = "1 word was" if len(words) == 1 else f"{len(words)} words were"
        known = [f"{word} → {word.lower()}" for word in words if word != word.lower() and UNK not in tokenizer.encode_one(word.lower())]
        helps = f"; written small {'it is' if len(known) == 1 else 'these are'} known: {_named(known)}" if known else ""
        found.append(
            f"{said} never seen in training, so nothing can be known of {'it' if len(words) == 1 else 'them'}: {_named(words)}{helps}"
        )
    lengths = [(len(tokenizer.encode_one(text)) + 2, text) for text in dict.fromkeys(read)]
    if cut := [(length, text) for length, text in lengths if length > tokenizer.max_length]:
        length, text = cut[0]
        shown = text if len(text) <= 60 else f"{text[:59]}…"
        others = f", and {len(cut) - 1} more" if len(cut) > 1 else ""
        found.append(f"a text of {length} tokens is cut to {tokenizer.max_length}, the most that the model reads: {shown!r}{others}")
    return read, found


def _named(words: Sequence[str]) -> str:
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return f"{', '.join(words[:SHOWN])}{more}"


def checked(model: Model, texts: Sequence[object], part: str = "text_encoder") -> list[str]:
    """Texts as `part` reads them, without spaces at their ends and doubled ones. Raises `UserError` for what is no text, or an empty one."""
    model.part(part)
    found = []
    for number, text in enumerate(texts):
        name = "the text" if len(texts) == 1 else f"text {number + 1} of {len(texts)}"
        if not isinstance(text, str):
            raise UserError(f"{name} is a {type(text).__name__}: expected a str")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{name} has half a character at place {error.start + 1} (a lone surrogate): {text!a}") from None
        if not any(character.isprintable() and not character.isspace() for character in text):
            raise UserError(f"{name} is empty: expected words")
        found.append(" ".join(text.split()))
    return found


def encode_text(model: Model, texts: Sequence[str]) -> Floats:
    """b texts → (b d) E_x's pooled latents."""
    encoder, tokenizer = cast(TextEncoder, model.part("text_encoder")), model.tokenizers["text_encoder"]
    with model.inference():
        found = [encoder(to_tokens(tokenizer, texts[rows]).to(model.device)).pooled for rows in slices(len(texts))]
    return joined(found, encoder.width)


def encode_image(model: Model, images: Pixels) -> Floats:
    """images (b h w c) → (b d) E_y's pooled latents."""
    encoder = cast(ImageEncoder, model.part("image_encoder"))
    with model.inference():
        found = [encoder(to_images(images[rows]).to(model.device)).pooled for rows in slices(len(images))]
    return joined(found, encoder.width)


def joined(found: Sequence[Tensor], width: int) -> Floats:
    """Parts of a batch, each (b d) → all of them; of none (0 width)."""
    rows = [part.float().cpu().numpy() for part in found]
    return np.concatenate(rows) if rows else np.zeros((0, width), np.float32)


def text_log_p(model: Model, images: Pixels, texts: Sequence[str], language: str | None = None) -> npt.NDArray[np.float64]:
    """images (b h w c), b texts → (b) log p(text | image), or log p(text | image, language), in nats."""
    encoder, decoder = cast(ImageEncoder, model.part("image_encoder")), cast(TextDecoder, model.part("text_decoder"))
    found: list[Any] = []
    with model.inference():
        for rows in slices(len(images)):
            z = encoder(to_images(images[rows]).to(model.device))
            tokens = to_tokens(model.tokenizers["text_decoder"], texts[rows]).to(model.device)
            prefix = None if language is None else told(model.tokenizers["language"], [language] * len(tokens)).to(model.device)
            found.append(-decoder.nll(tokens, z, prefix).double().cpu().numpy())
    return np.concatenate(found) if found else np.zeros(0)


def read(model: Model, images: Pixels) -> tuple[list[str], npt.NDArray[np.float64]]:
    """images (b h w c) → b captions as the recipe writes them, and (b) log p(caption | image) in nats of their very tokens."""
    encoder, decoder = cast(ImageEncoder, model.part("image_encoder")), cast(TextDecoder, model.part("text_decoder"))
    texts, log_p = list[str](), list[Any]()
    with model.inference():
        for rows in slices(len(images)):
            z = encoder(to_images(images[rows]).to(model.device))
            tokens = decoder.sample(z, beams=model.beams, length_exponent=model.length_exponent)
            texts += model.tokenizers["text_decoder"].decode(tokens.ids.cpu().numpy())
            log_p.append(-decoder.nll(tokens, z).double().cpu().numpy())
    return texts, np.concatenate(log_p)


def image_log_p(model: Model, images: Pixels, texts: Sequence[str], keys: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """images (b h w c), b texts → (b) log p(image | text) in nats as far as the image decoder measures it; chance is keyed by `keys` (b)."""
    encoder, decoder = cast(TextEncoder, model.part("text_encoder")), cast(ImageDecoder, model.part("image_decoder"))
    found: list[Any] = []
    with model.inference(), torch.no_grad():
        for rows in slices(len(images)):
            z = encoder(to_tokens(model.tokenizers["text_encoder"], texts[rows]).to(model.device))
            y = model.encode_image(to_images(images[rows]).to(model.device))
            found.append(-decoder.nll(y, z, Rng(("score",), keys[rows], model.device)).double().cpu().numpy())
    return np.concatenate(found) if found else np.zeros(0)


def captions(
    model: Model,
    images: Pixels,
    keys: npt.NDArray[np.int64],
    count: int,
    beams: int,
    length_exponent: float,
    temperature: float,
    top_p: float,
    language: str | None = None,
) -> list[list[Written]]:
    """images (b h w c) → for each the best texts that a search finds, or with a temperature those of so many draws, each once, the best first.

    `keys` (count b) are those of chance; `language` is what the decoder is asked to write in.
    """
    if temperature:
        how: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "languages": for_each(language, len(images))}
        drawn = [model.caption(images, numbers=row, batch=BATCH, **how) for row in keys]
        each = [list(dict.fromkeys(texts)) for texts in zip(*drawn, strict=True)]
        pairs = [(number, text) for number, texts in enumerate(each) for text in texts]
        log_p = text_log_p(model, images[[number for number, _ in pairs]], [text for _, text in pairs], language)
        found: list[list[Written]] = [[] for _ in each]
        for (number, text), value in zip(pairs, log_p, strict=True):
            found[number].append(Written(text, float(value)))
        return [sorted(texts, key=lambda text: -text.log_p) for texts in found]
    with model.inference():
        return [texts for rows in slices(len(images)) for texts in _searched(model, images[rows], count, beams, length_exponent, language)]


def for_each(language: str | None, count: int) -> list[str] | None:
    """The language for each of so many texts."""
    return None if language is None else [language] * count


def _searched(model: Model, images: Pixels, count: int, beams: int, length_exponent: float, language: str | None) -> list[list[Written]]:
    encoder, decoder = cast(ImageEncoder, model.part("image_encoder")), cast(TextDecoder, model.part("text_decoder"))
    z = encoder(to_images(images).to(model.device))
    logits, state = decoder.step(torch.full((len(images),), BOS, device=model.device), decoder.begin(z))
    if language is not None:
        for ids in told(model.tokenizers["language"], [language] * len(images)).to(model.device).ids[:, 1:-1].T:
            logits, state = decoder.step(ids, state)
    how = {"count": count, "beams": max(beams, count), "length_exponent": length_exponent, "max_length": decoder.max_length}
    tokens, log_p = best_texts(decoder.step, logits, state, **how)  # type: ignore[arg-type]
    texts = iter(model.tokenizers["text_decoder"].decode(tokens.ids.cpu().numpy()))
    rows = [[Written(next(texts), value) for value in row] for row in log_p.tolist()]
    return [[text for text in row if text.log_p > -torch.inf] for row in rows]
