"""What a world shows, read back region by region. Shapes: k windows, r regions, h w c a window's pixels, H W the world's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ibllm_core.model.model import Model

from .composer import Composer
from .drawing import Drawn
from .plan import Plan
from .world import Region

U8 = npt.NDArray[np.uint8]


def crops(plan: Plan, drawn: Drawn) -> U8:
    """(r h w c) the world as each region has it: where its window has no say, since something is there that it was not told, the window's own drawing."""
    chosen = list(plan.regions)
    flat = drawn.world.reshape(-1, drawn.world.shape[-1])
    return np.where(plan.weights[chosen][..., None] > 0, flat[plan.pixels()[chosen]], drawn.windows[chosen])


def read_regions(model: Model, plan: Plan, drawn: Drawn, composer: Composer | None, lines: Sequence[int], batch: int) -> list[Region]:
    """Every region, with what the model writes about it.

    Args:
        lines: of the script, for captions that have a window each.
    """
    images, asked = crops(plan, drawn), [plan.windows[n].caption for n in plan.regions]
    reads = {"image_encoder", "text_decoder"} <= set(model.parts)
    texts = model.caption(images, batch=batch) if reads else [None] * len(asked)
    shown = composer.shows(images, asked).tolist() if composer is not None else [None] * len(asked)
    h, w = plan.canvas
    found = []
    for n, said, text, right in zip(plan.regions, asked, texts, shown, strict=True):
        window = plan.windows[n]
        where = tuple(sorted({plan.things[k].line if plan.things else lines[k] for k in window.told}))
        found.append(
            Region(window.left, window.top, h, w, said, text, None if text is None else _agrees(composer, said, text), right, where)
        )
    return found


def _agrees(composer: Composer | None, asked: str, read: str) -> bool:
    """The same facts where the dataset knows them, otherwise the same words."""
    return asked.split() == read.split() or (composer is not None and composer.same(asked, read))
