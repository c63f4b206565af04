"""A script in, a world out. Shapes: k windows, c h w images, H W the world's pixels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
import numpy as np
import numpy.typing as npt

from ibllm_core.errors import Notice, UserError

from .composer import Composer
from .plan import Plan
from .script import Entry, Script, parse

if TYPE_CHECKING:
    from PIL.Image import Image

    from ibllm.trained import Trained

#: Of two neighbouring captions' windows, relative to a canvas: enough for a soft seam, and little of a caption's picture.
OVERLAP = 1 / 16

U8 = npt.NDArray[np.uint8]


@attrs.frozen
class Region:
    """A window's part of a world, described.

    Attributes:
        left, top, height, width: in pixels; it may go around.
        asked: what the model was told to draw.
        read: what the model reads there; None where it cannot read.
        agrees: whether both say the same; None where nothing was read.
        shown: whether the dataset's own reader finds what was asked and nothing else; None where it has none.
        lines: of the script.
    """

    left: int
    top: int
    height: int
    width: int
    asked: str
    read: str | None
    agrees: bool | None
    shown: bool | None
    lines: tuple[int, ...]


@attrs.frozen(eq=False)
class Scene:
    """A world that was drawn.

    Attributes:
        pixels: (H W c) uint8; its left and right edge fit together.
        regions: from left to right.
        plan: where its windows lie.
        together: the windows were denoised together; otherwise each was drawn by itself, and their drawings were blended.
        seed, title, best_of: as they were asked for.
    """

    pixels: U8
    regions: Sequence[Region]
    plan: Plan
    together: bool
    seed: int
    title: str
    best_of: int = 1

    @property
    def image(self) -> Image:
        """The picture, RGB or grey."""
        from PIL import Image

        return Image.fromarray(self.pixels if self.pixels.shape[2] > 1 else self.pixels[..., 0])

    def page(self, facts: Sequence[str] = ()) -> str:
        """A self-contained HTML page to look around in; `facts` are sentences about where it comes from."""
        from .page import render

        return render(self, facts)


def plan(script: Script, canvas: tuple[int, int], composer: Composer | None, overlap: float = OVERLAP, unit: int = 1) -> Plan:
    """Where the windows of a script's world lie and what each is told.

    Args:
        canvas: height and width of what the model draws.
        composer: of the dataset; without one, or with one without cells, each caption has a window of its own.
        overlap: of two neighbouring captions' windows, relative to a canvas; with cells windows overlap by all but a cell.
        unit: windows lie on multiples of so many pixels.

    Raises:
        UserError: with every mistake of the script and its line.
    """
    from .captions import CaptionsWorld
    from .cells import CellsWorld

    cells = composer is not None and composer.grid is not None
    found = (CellsWorld(script, canvas, composer, unit) if cells else CaptionsWorld(script, canvas, overlap, unit)).plan()  # type: ignore[arg-type]
    if script.mistakes:
        raise script.wrong(())
    return found


def draw(
    run: Trained,
    script: Script | str,
    *,
    seed: int = 0,
    overlap: float | None = None,
    captions: bool = False,
    best_of: int = 1,
    batch: int = 128,
    **live: Any,
) -> Scene:
    """Draws the world of a script and reads it back.

    Words that the model never saw are told by a warning, `Notice`.

    Args:
        script: one that was read (`ibllm_scene.script.parse`), or its text.
        seed: of the noise.
        overlap: of neighbouring captions' windows, relative to the canvas, where captions name no cells; at least 0 and at most a half, by default `OVERLAP`.
        captions: take every caption as it is, a window each, though the dataset's captions name cells.
        best_of: drawings of each caption of a sequence without cells, each with other noise; those are taken that fit best where they overlap.
        batch: windows a forward pass; the result does not depend on it.
        live: options of the image decoder that may be changed in use, such as steps.

    Raises:
        UserError: the script's mistakes, each with its line; a part that is needed and lacking; an option that the decoder does not have.
    """
    from .drawing import Joint, draw_windows, grain
    from .reading import read_regions

    if overlap is not None and not 0 <= overlap <= 0.5:
        raise UserError(f"overlap = {overlap:g}: expected at least 0 and at most 0.5")
    script, remarks = readable(run, parse(script, strict=False) if isinstance(script, str) else script)
    composer = composer_of(run)
    with run.computing(**live) as model:
        model.part("text_encoder")
        model.part("image_decoder")
        planned = plan(script, model.image_shape[1:], None if captions else composer, OVERLAP if overlap is None else overlap, grain(model))
        if planned.things and overlap is not None:
            warnings.warn(
                Notice(f"overlap = {overlap:g} changes nothing: captions name cells, so windows overlap by all but a cell"), stacklevel=2
            )
        if best_of > 1:
            _require_sequence(script, planned, together=isinstance(model.part("image_decoder"), Joint))
        tell(remarks, script, planned)
        drawn = draw_windows(model, planned, seed, batch, best_of)
        regions = read_regions(model, planned, drawn, composer, [entry.line for entry in script.entries], batch)
    return Scene(drawn.world, regions, planned, drawn.together, seed, script.title or Path(script.name).stem, best_of)


def _require_sequence(script: Script, planned: Plan, together: bool) -> None:
    """Raises `UserError` where there is no choice among drawings."""
    if together:
        raise UserError("best_of: expected 1, since this decoder's windows are drawn together and agree where they overlap")
    if script.placed or planned.things:
        raise UserError(f"{script.name}: best_of is for a sequence of captions without cells, whose neighbours may or may not fit")


def composer_of(run: Trained) -> Composer | None:
    """What the config of a model's data says of their captions, where it says anything."""
    config = run.recipe.data.config
    return cast("Composer", config.composer()) if hasattr(config, "composer") else None


def readable(run: Trained, script: Script) -> tuple[Script, list[str]]:
    """The script with its texts as the model reads them, and what it cannot know of them or leaves out, a sentence each with its line."""
    from ibllm.use import as_read

    entries, said = list[Entry](), list[str]()
    for entry in script.entries:
        (text,), remarks = as_read(run.model, [entry.text])
        entries.append(attrs.evolve(entry, text=text))
        said += [f"{script.name}:{entry.line}: {remark}" for remark in remarks]
    return attrs.evolve(script, entries=entries), said


def tell(remarks: Sequence[str], script: Script, planned: Plan) -> None:
    """Warns of what `readable` found, and of places that were moved."""
    for remark in remarks:
        warnings.warn(Notice(remark), stacklevel=3)
    if planned.rounded:
        places = "1 place lies" if planned.rounded == 1 else f"{planned.rounded} places lie"
        warnings.warn(Notice(f"{script.name}: {places} between pixels that a window can begin at, and went to the nearest"), stacklevel=3)
