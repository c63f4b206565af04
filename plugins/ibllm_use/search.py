"""``ibllm search``: find images in a folder by text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from .common import (
    device_option,
    examples,
    from_option,
    json_option,
    note,
    output_option,
    overwrite_option,
    require_new,
    run_argument,
    short,
    tell,
    texts_from,
    told_already,
    using,
    working,
)

EXAMPLES = examples(
    'ibllm search runs/joint photos/ "a small red circle at the top left"',
    'ibllm search runs/joint photos/ "a large green ring" -k 20 -o found.png',
    "ibllm search runs/joint photos/ --from texts.txt --json",
)


@click.command(name="search", epilog=EXAMPLES)
@run_argument
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@from_option("Texts, one a line")
@output_option("A sheet (.png, .jpg, …) of what was found, the nearest first.")
@click.option("-k", "number", type=click.IntRange(min=1), default=10, show_default=True, help="Images for each text.")
@device_option
@json_option
@overwrite_option
def command(
    run: Path,
    folder: Path,
    texts: tuple[str, ...],
    file: Path | None,
    output: Path | None,
    number: int,
    device: str | None,
    as_json: bool,
    overwrite: bool,
) -> None:
    """Find the images in FOLDER, at any depth, that are nearest to each TEXT in the latents of RUN's trained model.

    Where images lie is kept in an index outside FOLDER, so that a further search reads only those that are new or have changed.
    """
    from .pictures import STILL, Group, Picture, require_ending, sheet, write

    asked = texts_from(texts, file)
    if output is not None:
        require_ending(output, STILL)
        require_new([output], overwrite)
    with using(run, device) as model:
        for remark in model.remarks(asked):
            note(remark)
        with working(f"reading {folder}"), told_already(model, asked):
            answers = [list(model.search(folder, text, number)) for text in asked]
        pixels = [[model.pixels(one.image)[0] for one in found] for found in answers] if output is not None else []
    if output is not None:
        labels = [[f"{Path(one.image).name} {one.agreement:.2f}" for one in found] for found in answers]
        rows = [[Picture(np.asarray(p), label) for p, label in zip(*both, strict=True)] for both in zip(pixels, labels, strict=True)]
        write(output, sheet([Group(row, text) for row, text in zip(rows, asked, strict=True)]), overwrite)
    items: list[dict[str, Any]] = [
        {"text": text, "found": [{"image": str(one.image), "agreement": one.agreement} for one in found]}
        for text, found in zip(asked, answers, strict=True)
    ]
    lines = [
        (*([short(item["text"])] if len(asked) > 1 else []), one["image"], f"{one['agreement']:.4f}")
        for item in items
        for one in item["found"]
    ]
    result = {"run": str(run), "folder": str(folder), "k": number, "file": None if output is None else str(output), "items": items}
    tell(result, lines, as_json)
