"""Ways through a model's latents.

Shapes: b pictures, t steps, n latent places, d latent width, k noise width, h w pixels, c channels.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibllm.use import text_keys
from ibllm_core.errors import UserError
from ibllm_core.interfaces.batch import to_pixels, to_tokens
from ibllm_core.interfaces.image import DrawingDecoder
from ibllm_core.interfaces.latent import Latent
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.text import TextEncoder

from .common import in_chunks

if TYPE_CHECKING:
    from ibllm.trained import Trained
    from ibllm_core.model.model import Model

Pixels = npt.NDArray[np.uint8]


def between_texts(trained: Trained, texts: Sequence[str], seed: int, steps: int) -> Pixels:
    """Pictures (b h w c) on the way through the texts, `steps` from each to the next, both included; the noise of all is the first one's."""
    texts = trained.as_read(texts)
    with trained.computing() as model:
        encoder, tokenizer = cast(TextEncoder, model.part("text_encoder")), model.tokenizers["text_encoder"]
        ends = [encoder(to_tokens(tokenizer, [text]).to(model.device)) for text in texts]
        ids = [tokenizer.encode_one(text) for text in texts]
        on_the_way = [ends[0]]
        for a, b in itertools.pairwise(range(len(texts))):
            on_the_way += [*_between(ends[a], ends[b], [0, *ids[a], 0], [0, *ids[b], 0], steps), ends[b]]
        drawn = []
        for chunk in in_chunks(on_the_way, "drawing", 1):
            drawn.append(to_pixels(model.sample_image(chunk[0], _chance(texts[0], seed, model))))
    return np.concatenate(drawn)


def _between(a: Latent, b: Latent, of_a: Sequence[int], of_b: Sequence[int], steps: int) -> list[Latent]:
    """The latents strictly between two, in equal steps. Places of the same token are matched; one without a partner goes to its neighbour's."""
    if a.tokens.shape[1] == len(of_a) and b.tokens.shape[1] == len(of_b):
        left, right = _matched(of_a, of_b)
    else:  # not a place a token: places in order, the shorter one stretched
        longest = max(a.tokens.shape[1], b.tokens.shape[1])
        left, right = (np.floor(np.arange(longest) * z.tokens.shape[1] / longest).astype(int).tolist() for z in (a, b))
    rows = [(a.tokens[:, left], b.tokens[:, right]), (a.pooled, b.pooled)]
    mask = a.mask[:, left] & b.mask[:, right]
    share = [k / (steps - 1) for k in range(1, steps - 1)]
    return [Latent(torch.lerp(*rows[0], s), mask, torch.lerp(*rows[1], s)) for s in share]


def _matched(a: Sequence[int], b: Sequence[int]) -> tuple[list[int], list[int]]:
    """Pairs of places of two sequences, as two lists of one length; every place comes at least once, and places never go back."""
    left, right = list[int](), list[int]()
    for _, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        for k in range(max(a1 - a0, b1 - b0)):
            left.append(min(a0 + k, max(a1 - 1, a0 - 1, 0)))
            right.append(min(b0 + k, max(b1 - 1, b0 - 1, 0)))
    return left, right


def between_noises(trained: Trained, text: str, seeds: Sequence[int], steps: int) -> Pixels:
    """Pictures (b h w c) of one text on the way through the noises of the seeds, along great circles (Shoemake 1985): the length of normal
    noise stays as it is.

    Raises:
        UserError: the decoder does not draw in one pass of noise and text, or draws without noise.
    """
    decoder = trained.model.part("image_decoder")
    if not isinstance(decoder, DrawingDecoder):
        raise UserError(
            f"--noise: the image decoder {type(decoder).__name__} does not draw in one pass of text and noise; walk between texts instead"
        )
    (text,) = trained.as_read([text])
    with trained.computing() as model:
        z = cast(TextEncoder, model.part("text_encoder"))(to_tokens(model.tokenizers["text_encoder"], [text]).to(model.device))
        ends = [decoder.noise(z, _chance(text, seed, model)) for seed in seeds]
        if ends[0].numel() == 0:
            raise UserError(f"--noise: the image decoder {type(decoder).__name__} draws without noise; walk between texts instead")
        way = [ends[0]]
        for a, b in itertools.pairwise(ends):
            way += [_slerp(a, b, k / (steps - 1)) for k in range(1, steps)]
        return np.concatenate([to_pixels(model.decode_image(decoder.draw(z, chunk[0]))) for chunk in in_chunks(way, "drawing", 1)])


def _chance(text: str, seed: int, model: Model) -> Rng:
    """What `ibllm generate` draws the text with."""
    return Rng((0, "generate"), text_keys([text], [seed], 0), model.device)


def _slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """(b …) between two noises along a great circle, their lengths mixed evenly."""
    x, y = a.flatten(1), b.flatten(1)
    cosine = torch.nn.functional.cosine_similarity(x, y, dim=1).clamp(-1, 1)
    angle = torch.acos(cosine).unsqueeze(1)
    if bool((angle.sin().abs() < 1e-6).any()):
        return torch.lerp(a, b, share)
    mixed = (torch.sin((1 - share) * angle) * x + torch.sin(share * angle) * y) / torch.sin(angle)
    return mixed.view_as(a)
