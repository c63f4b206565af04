"""``ibllm roundtrip``: text to image to text, or image to text to image, each leg shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click
import numpy as np

from ibllm.blocks.ends import told_of_ends

from .common import (
    common_options,
    examples,
    from_option,
    of_texts,
    output_option,
    require_new,
    run_argument,
    short,
    tell,
    texts_from,
    using,
)

if TYPE_CHECKING:
    from ibllm.answers import RoundTrip

EXAMPLES = examples(
    'ibllm roundtrip runs/joint "a small red circle at the top left and a large blue square at the bottom right"',
    'ibllm roundtrip runs/joint "a large green ring at the top left" a.png -o trips.html',
    "ibllm roundtrip runs/joint --from captions.txt -o trips.png --json",
)


@click.command(name="roundtrip", epilog=EXAMPLES)
@run_argument
@click.argument("things", nargs=-1, metavar="[TEXT|IMAGE|FOLDER]...")
@from_option("Texts or paths of images, one a line")
@output_option("A page (.html) or a sheet (.png, .jpg, …) with every leg.")
@common_options
def command(
    run: Path,
    things: tuple[str, ...],
    file: Path | None,
    output: Path | None,
    seed: int,
    device: str | None,
    as_json: bool,
    overwrite: bool,
) -> None:
    """Send each TEXT or IMAGE once round through both halves of RUN's trained model.

    A text is drawn and the drawing is read: text, image, text. An image is read and what was read is drawn: image, text, image.
    What is the name of a file or a folder is taken for images, all else for text.
    """
    from .images import read, sources
    from .pictures import STILL, require_ending

    given = texts_from(things, file, "text or image")
    if output is not None:
        require_ending(output, (".html", *STILL))
        require_new([output], overwrite)
    texts = [thing for thing in given if not _is_image(thing)]
    images = sources([Path(thing) for thing in given if _is_image(thing)]) if len(texts) < len(given) else []
    trips: list[tuple[str, RoundTrip]] = []
    with using(run, device) as model, told_of_ends():
        trips += zip(texts, of_texts(model, texts, "drawing and reading", lambda chunk: model.roundtrip(chunk, seed=seed)), strict=True)
        for found, pixels in read(model, images, "reading and drawing") if images else ():
            trips += [(str(s.path), trip) for s, trip in zip(found, model.roundtrip(list(pixels), seed=seed), strict=True)]
    if output is not None:
        _write(output, trips, overwrite)
    items = [_item(name, trip) for name, trip in trips]
    tell(
        {"run": str(run), "seed": seed, "file": None if output is None else str(output), "items": items},
        [_row(*trip) for trip in trips],
        as_json,
    )


def _is_image(thing: str) -> bool:
    """A file or a folder that is there, or what is called like an image."""
    from ibllm.pictures import SUFFIXES

    return Path(thing).suffix.lower() in SUFFIXES or _exists(thing)


def _exists(thing: str) -> bool:
    try:
        return Path(thing).exists()
    except (OSError, ValueError):  # longer than a path may be, or with a NUL
        return False


def _item(name: str, trip: RoundTrip) -> dict[str, Any]:
    read = trip.back if trip.given == "text" else trip.text
    return {
        "given": trip.given,
        trip.given: name,
        "read": read,
        "log_p": trip.log_p,
        **({} if trip.returned is None else {"returned": trip.returned}),
    }


def _row(name: str, trip: RoundTrip) -> tuple[str, ...]:
    if trip.given == "text":
        return (short(name), "drawn, then read:", trip.back, "the same text" if trip.returned else "another text")
    return (name, "read, then drawn:", trip.text)


def _write(path: Path, trips: Sequence[tuple[str, RoundTrip]], overwrite: bool) -> None:
    """A page, or a sheet: a line for each trip, its legs from left to right."""
    from .pictures import Group, Picture, sheet, write, write_text

    if path.suffix.lower() == ".html":
        write_text(path, page(trips), overwrite)
        return
    groups = []
    for name, trip in trips:
        legs = [Picture(None, thing) if kind == "text" else Picture(np.asarray(thing)) for kind, thing in trip.legs()]
        if trip.given == "image":
            legs[0] = attrs.evolve(legs[0], label=Path(name).name)
        groups.append(Group(legs, arrows=True))
    write(path, sheet(groups), overwrite)


def page(trips: Sequence[tuple[str, RoundTrip]]) -> str:
    """A page of HTML that needs nothing else: a line for each trip, its legs from left to right."""
    from importlib.resources import files

    from jinja2 import Environment

    from .pictures import as_url, enlarge, times_for

    def leg(kind: str, thing: Any) -> dict[str, str]:
        if kind == "text":
            return {"kind": kind, "text": thing}
        pixels = np.asarray(thing)
        return {"kind": kind, "url": as_url(enlarge(pixels, times_for(pixels, 192)))}

    rows = [
        {"name": name, "legs": [leg(*one) for one in trip.legs()], "returned": trip.returned, "log_p": round(trip.log_p, 2) + 0.0}
        for name, trip in trips
    ]
    template = files(__package__).joinpath("templates", "roundtrip.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template).render(rows=rows)
