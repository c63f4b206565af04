"""A world as a page to look around in: one self-contained HTML file. Torch-free."""

from __future__ import annotations

import base64
import difflib
import io
from collections.abc import Sequence

import attrs

from .world import Region, Scene

#: Words of a text and whether each is not in the other one.
Marked = Sequence[tuple[str, bool]]


@attrs.frozen
class View:
    """A region as the page shows it; `asked` and `read` are words with marks."""

    region: Region
    place: str
    asked: Marked
    read: Marked | None


def render(scene: Scene, facts: Sequence[str] = ()) -> str:
    """The page.

    Args:
        facts: sentences about where it comes from.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ibllm_scene"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    views = [_view(scene, region) for region in scene.regions]
    judged = [region for region in scene.regions if region.agrees is not None]
    shown = [region for region in scene.regions if region.shown is not None]
    return environment.get_template("scene.html.j2").render(
        title=scene.title,
        picture=_data_uri(scene),
        height=scene.plan.height,
        width=scene.plan.width,
        views=views,
        counts=[
            *([f"{_of(sum(bool(r.agrees) for r in judged), len(judged))} read back by the model as asked"] if judged else []),
            *([f"{_of(sum(bool(r.shown) for r in shown), len(shown))} found as asked by the data's own reader"] if shown else []),
        ],
        how=how(scene),
        facts=facts,
        judged=bool(judged),
    )


def how(scene: Scene) -> list[str]:
    """Sentences that say how the world was drawn, and what that does not promise."""
    plan, windows = scene.plan, len(scene.plan.windows)
    told = sum(bool(window.spare) for window in plan.windows)
    said = [
        f"{plan.width} × {plan.height} pixels were drawn in {windows} windows of the model's canvas, {plan.canvas[1]} × {plan.canvas[0]}, "
        f"with seed {scene.seed}."
    ]
    if scene.together:
        said.append("They were denoised together: at every step the velocities of windows that overlap were averaged.")
    else:
        said.append("Each was drawn by itself in one pass, with the same noise; where they overlap they were blended by weights.")
    if scene.best_of > 1:
        said.append(f"Of {scene.best_of} drawings of each caption those were taken that fit best where they overlap.")
    if plan.things:
        said.append("What crosses a window's edge was left to the windows in which it is whole.")
    else:
        said.append("Captions name no cells, so what lies where windows overlap is a blend of both; nothing promises that it is whole.")
    if told:
        more = (
            "1 window holds too little for a caption and was"
            if told == 1
            else f"{told} windows hold too little for a caption and were each"
        )
        said.append(f"{more} told of a thing more; that part of the drawing is not used.")
    if any(region.agrees is None for region in scene.regions):
        said.append("The model has no parts that read, so nothing was read back.")
    return said


def _of(number: int, total: int) -> str:
    return f"{number} of {total} regions" if total != 1 else f"{number} of 1 region"


def _view(scene: Scene, region: Region) -> View:
    lines = ", ".join(map(str, region.lines))
    asked, read = region.asked.split(), (region.read or "").split()
    differs = region.read is not None and not region.agrees
    return View(
        region,
        f"line {lines}" if len(region.lines) == 1 else f"lines {lines}",
        _marked(asked, read) if differs else [(word, False) for word in asked],
        None if region.read is None else _marked(read, asked) if differs else [(word, False) for word in read],
    )


def _marked(words: Sequence[str], other: Sequence[str]) -> Marked:
    """The words, with those marked that the other text has not in this place."""
    matcher = difflib.SequenceMatcher(None, words, other, autojunk=False)
    return [(word, tag != "equal") for tag, start, end, *_ in matcher.get_opcodes() for word in words[start:end]]


def _data_uri(scene: Scene) -> str:
    file = io.BytesIO()
    scene.image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
