"""What attacks make worse: objectives, x (b …) → how bad each item is for the model (b), and what x is: images, or the embeddings of words.

Objectives go through a cycle of their own at every call, whose parts should be as they are in use (`still`). Everything is asked of a cycle, so that they work
for any model; in use, ``Cycle(model, batch, key=(seed, "attack"))`` makes one of a batch on the model's device, within ``model.precision()``.

Shapes: b batch, c h w image, t tokens of a text, e embedding width, n latent places, d latent width, v vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, cast

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibllm.plugin import (
    EOS,
    Batch,
    Cycle,
    DrawingDecoder,
    Latent,
    Model,
    Rng,
    TextDecoder,
    TextEncoder,
    Tokens,
    UserError,
    at_least_float32,
    dropout_off,
)

#: x (b …) → (b), more being worse for the model.
Objective = Callable[[Tensor], Tensor]
#: What a likelihood is judged by: −log p; or the margin of the likeliest wrong word, largest over a text's places.
LOSSES = ("nll", "dlr")


class CommonSpace(Protocol):
    """Where captions and images that belong together lie near each other: a loss that learns such a space."""

    def text_point(self, z: Latent) -> Tensor:
        """A caption's latent → unit vectors (b k)."""

    def image_point(self, z: Latent) -> Tensor:
        """An image's latent → unit vectors (b k)."""


@contextmanager
def still(model: Model) -> Iterator[None]:
    """Within, all parts compute what they do in use: without dropout, with the statistics that they keep."""
    with ExitStack() as stack:
        for part in model.parts.values():
            stack.enter_context(dropout_off(part))
        yield


# On images.


def captioning(cycle: Cycle, target: Tokens | None = None, loss: str = "nll") -> Objective:
    """Images (b c h w) → −log p(caption | image) (b), or log p of a `target`, as D_x writes it: the image is to be read as that.

    Args:
        loss: ``nll``; or ``dlr``, the difference of logits ratio (Croce and Hein 2020, equation 5) of the place in the text where it is largest: one wrong word
            is enough to spoil a caption, and it does not vanish where the model is sure.

    Raises:
        UserError: ``dlr`` of a decoder that is told a language.
    """
    caption = target if target is not None else cycle.x_out
    decoder = cast(TextDecoder, cycle.model.part("text_decoder"))
    if loss == "dlr" and cycle.batch.language is not None:
        raise UserError('loss = "dlr" is not for a text decoder that is told its language: expected "nll"')

    def nll(x: Tensor) -> Tensor:
        return _of(cycle, y=x, x_out=caption).text_nll

    def dlr(x: Tensor) -> Tensor:
        z = _of(cycle, y=x).z_y
        return margin(decoder.logits(caption.ids[:, :-1], caption.mask[:, :-1], z), caption)

    return _signed({"nll": nll, "dlr": dlr}[loss], target)


def answers(cycle: Cycle, target: Tokens | None = None) -> Objective:
    """Images (b c h w) → −log p(answer | image, question) (b), or log p of a `target` in the answer's place."""
    answer = target if target is not None else cycle.batch.answer
    return _signed(lambda x: _of(cycle, y=x, answer=answer).answer_nll, target)


def agreement(cycle: Cycle, space: CommonSpace, of: str = "image", target: Tensor | None = None) -> Objective:
    """Images (b c h w), or texts' embeddings as `embedded` gives them → −cosine (b) of caption and image in their common space.

    Args:
        target: (b k) unit vectors, which what is perturbed is to agree with in the place of its own caption or image.
    """
    with torch.no_grad():
        own = space.text_point(cycle.z_x) if of == "image" else space.image_point(cycle.z_y)
    wanted = (own if target is None else target).detach()

    def cosine(changed: Cycle) -> Tensor:
        point = space.image_point(changed.z_y) if of == "image" else space.text_point(changed.z_x)
        return -(at_least_float32(point) * wanted).sum(-1)

    write = _with_image if of == "image" else embedded(cycle).shifted
    return _signed(lambda x: cosine(cycle.of(write(cycle.batch, x))), target)


def latent(cycle: Cycle, of: str = "image", target: Latent | None = None) -> Objective:
    """Images, or texts' embeddings → squared distance (b) of the latent from the clean one, or from a `target`, which it is to come near.

    At the clean one it has no gradient: an attack has to begin elsewhere (not fgsm).
    """
    with torch.no_grad():
        own = target or (cycle.z_y if of == "image" else cycle.z_x)
    write = _with_image if of == "image" else embedded(cycle).shifted

    def moved(x: Tensor) -> Tensor:
        changed = cycle.of(write(cycle.batch, x))
        return distance(changed.z_y if of == "image" else changed.z_x, own)

    return _signed(moved, target)


def distance(z: Latent, wanted: Latent) -> Tensor:
    """(b) ‖pooled − pooled'‖² + the mean over places of ‖token − token'‖²."""
    pooled = (at_least_float32(z.pooled) - wanted.pooled).square().sum(-1)
    places = (at_least_float32(z.tokens) - wanted.tokens).square().sum(-1) * wanted.mask
    return pooled + places.sum(1) / wanted.mask.sum(1).clamp(min=1)


# On texts' embeddings.


@attrs.frozen
class Embedded:
    """A batch's captions as numbers that can be perturbed.

    Attributes:
        x: (b t e) embeddings, each place in units of its own root mean square.
        unit: (b t 1) that root mean square.
        words: (b t 1) which places are words: no beginning, end or padding, which an attack leaves alone.
    """

    x: Tensor
    unit: Tensor
    words: Tensor

    def shift(self, x: Tensor) -> Tensor:
        """x (b t e) perturbed → what is added to the embeddings (b t e)."""
        return torch.where(self.words, (x - self.x) * self.unit, 0.0)

    def shifted(self, batch: Batch, x: Tensor) -> Batch:
        """The batch whose captions are read with these embeddings."""
        return attrs.evolve(batch, x_shift=self.shift(x))


def embedded(cycle: Cycle) -> Embedded:
    """The captions' embeddings. Raises `UserError` where the text encoder does not read a text as embeddings of its tokens alone."""
    encoder, texts = cycle.model.part("text_encoder"), cycle.x
    if not isinstance(encoder, TextEncoder) or type(encoder).forward is not TextEncoder.forward:
        raise UserError(
            f"{type(encoder).__name__} has a forward pass of its own, so its texts do not all go through `embed` and `encode`, between which "
            'embeddings are perturbed: expected of = "image", or an encoder without one'
        )
    with torch.no_grad():
        found = encoder.embed(texts.ids).float()
    unit = found.square().mean(-1, keepdim=True).sqrt().clamp(min=torch.finfo(found.dtype).tiny)
    return Embedded(found / unit, unit, (texts.mask & (texts.ids > EOS))[:, :, None])


def drawing(cycle: Cycle, target: Tensor | None = None) -> Objective:
    """Embeddings (b t e) → −log p(image | caption) (b), the decoder's own, or log p of a `target` (b c h w); noise is the same at every call."""
    y, read = cycle.y if target is None else target, embedded(cycle)

    def nll(x: Tensor) -> Tensor:
        return _of(cycle, read.shifted(cycle.batch, x), y=y).image_nll

    return _signed(nll, target)


# The cycle: a caption, its drawing, and what is read in it.


def cycle(cycle: Cycle, of: str = "text", target: Tokens | None = None) -> Objective:
    """How little of the caption is read in the drawing, −log p(caption | drawing) (b), or log p of a `target`.

    Of texts' embeddings (b t e), with the decoder's gradient. A decoder that does not draw in one differentiable pass (tokens, flows) is attacked through its
    likelihood: −log p(its own drawing of the clean caption | the perturbed one). Of images (b c h w) the drawing itself is perturbed (`drawn`).
    """
    caption = target if target is not None else cycle.x_out
    if of == "image":
        return captioning(cycle, target)
    read = embedded(cycle)
    if isinstance(cycle.model.part("image_decoder"), DrawingDecoder):
        return _signed(lambda x: _of(cycle, read.shifted(cycle.batch, x), x_out=caption).cycle_nll, target)
    if target is not None:
        raise UserError(
            "the image decoder does not draw in one differentiable pass, so its drawing cannot be led to a target: expected none"
        )
    return drawing(cycle, drawn(cycle)) if target is None else drawing(cycle)


def drawn(cycle: Cycle) -> Tensor:
    """(b c h w) the drawing of each caption, without a graph."""
    with torch.no_grad():
        if isinstance(cycle.model.part("image_decoder"), DrawingDecoder):
            return cycle.y_fake.detach()
        return cycle.model.sample_image(cycle.z_x, cycle.rng("draw"))


# What a stage, or an evaluation, perturbs.


@attrs.frozen
class Aim:
    """What is perturbed of a batch's rows, and what for.

    Attributes:
        x: (b' …) what is perturbed, of the rows.
        low, high: its range; infinite for embeddings.
        rng: of the rows.
        free: (b' t 1) of embeddings: True at words, which alone may change; None for images.
    """

    objective: Objective
    x: Tensor
    low: float
    high: float
    rng: Rng
    free: Tensor | None
    _batch: Batch
    _rows: Sequence[int]
    _read: Embedded | None

    def written(self, found: Tensor, replace: bool = True) -> Batch:
        """The whole batch with x (b' …) perturbed; images beside the clean ones where they do not `replace` them."""
        batch = self._batch
        if self._read is not None:
            shift = self._read.shift(found)
            return attrs.evolve(batch, x_shift=_merged(shift.new_zeros(len(batch), *shift.shape[1:]), self._rows, shift))
        assert batch.y is not None
        together = _merged(batch.y, self._rows, found)
        return attrs.evolve(batch, y=together if replace else batch.y, y_clean=batch.y, y_perturbed=together)


def aimed(
    cycle: Cycle,
    of: str,
    against: str,
    *,
    rows: Sequence[int] | None = None,
    space: CommonSpace | str = "",
    target: Any = None,
    loss: str = "nll",
) -> Aim:
    """What is perturbed, and what it shall make worse.

    Args:
        cycle: of the whole batch.
        of, against: as in a recipe (`ibllm_robust.config.AGAINST`); of images against ``cycle`` their captions' drawings are perturbed in their place.
        rows: of the batch; all by default.
        space: for ``agreement``, or the name of a loss that learns it.
        target: of the rows, where the attack is targeted: tokens, an image, a point or a latent, as the objective says.
        loss: of ``captioning``.

    Raises:
        UserError: the model, the data or the stage have not what it takes.
    """
    chosen = range(len(cycle)) if rows is None else rows
    part = cycle.of(_part(cycle.batch, chosen))
    if of == "image" and against == "cycle":
        part = _of(part, y=drawn(part))
    if of == "text" and against == "cycle" and part.batch.y is None:
        part = _of(part, y=drawn(part))
    objectives: dict[str, Callable[[], Objective]] = {
        "captioning": lambda: captioning(part, target, loss),
        "answers": lambda: answers(part, target),
        "drawing": lambda: drawing(part, target),
        "agreement": lambda: agreement(part, _space(cycle, space), of, target),
        "cycle": lambda: cycle_objective(part, of, target),
        "latent": lambda: latent(part, of, target),
    }
    read = embedded(part) if of == "text" else None
    x, (low, high) = (part.y, (-1.0, 1.0)) if read is None else (read.x, (-math.inf, math.inf))
    return Aim(objectives[against](), x, low, high, part.rng("perturb"), read.words if read else None, cycle.batch, chosen, read)


#: `cycle`, where the name is a cycle's.
cycle_objective = cycle


def rows_of(numbers: npt.NDArray[np.int64], share: float) -> list[int]:
    """Which of a batch's items are perturbed: evenly spread over the iteration's places, whatever the share of ranks and micro-batches."""
    chosen = np.floor((numbers + 1) * share + 1e-9) > np.floor(numbers * share + 1e-9)
    return [int(row) for row in np.flatnonzero(chosen)]


def margin(logits: Tensor, text: Tokens) -> Tensor:
    """logits (b t−1 v) → (b) the largest −(z_y − max_{i≠y} z_i) / (z_π1 − z_π3) over a text's places (Croce and Hein 2020, equation 5)."""
    ids, counted, logits = text.ids[:, 1:], text.mask[:, 1:], at_least_float32(logits)
    best = logits.topk(3, -1).values
    own = logits.gather(-1, ids[:, :, None])[:, :, 0]
    other = torch.where(own >= best[..., 0], best[..., 1], best[..., 0])
    ratio = (other - own) / (best[..., 0] - best[..., 2]).clamp(min=1e-12)
    return ratio.masked_fill(~counted, -math.inf).amax(1)


def _space(cycle: Cycle, space: CommonSpace | str) -> CommonSpace:
    found: Any = space if not isinstance(space, str) else cycle.losses.get(space)
    if not (hasattr(found, "text_point") and hasattr(found, "image_point")):
        raise UserError(
            f"{space!r} is no loss of the stage that learns a common space of texts and images: expected the name of one (contrastive, say)"
        )
    return cast(CommonSpace, found)


def _signed(objective: Objective, target: Any) -> Objective:
    """A target is to be met, the truth to be missed."""
    return objective if target is None else lambda x: -objective(x)


def _of(cycle: Cycle, batch: Batch | None = None, **changes: Any) -> Cycle:
    return cycle.of(attrs.evolve(batch or cycle.batch, **changes))


def _with_image(batch: Batch, x: Tensor) -> Batch:
    return attrs.evolve(batch, y=x)


def _part(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some rows of a batch. They are cut out one by one, for a list of places would have to be copied to the device."""
    if len(rows) == len(batch):
        return batch
    part = batch.mapped(lambda t: torch.cat([t[row : row + 1] for row in rows]) if len(rows) else t[:0])
    return attrs.evolve(part, numbers=batch.numbers[list(rows)])


def _merged(whole: Tensor, rows: Sequence[int], found: Tensor) -> Tensor:
    """(b …) with some rows from `found` (b' …)."""
    if len(rows) == len(whole):
        return found
    own = iter(found.to(whole.dtype).unbind())
    return torch.stack([next(own) if row in rows else whole[row] for row in range(len(whole))])
