"""``ibllm caption``: write captions for images."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ibllm.blocks.ends import told_of_ends
from ibllm_core.errors import UserError

from .common import (
    common_options,
    examples,
    from_option,
    output_option,
    require_new,
    run_argument,
    tell,
    using,
)

EXAMPLES = examples(
    "ibllm caption runs/joint a.png photos/",
    "ibllm caption runs/joint a.png --n-best 3",
    "ibllm caption runs/joint photos/ -o captions.csv",
    "ls photos/*.png | ibllm caption runs/joint - --json",
)
#: The tables that the dataset `files` reads.
TABLES = (".csv", ".tsv", ".jsonl")


@click.command(name="caption", epilog=EXAMPLES)
@run_argument
@click.argument("images", nargs=-1, type=click.Path(path_type=Path, allow_dash=True), metavar="[IMAGE|FOLDER]...")
@from_option("Paths of images, one a line")
@output_option(f"A table ({', '.join(TABLES)}) that the dataset files trains on; its captions are marked as written by a machine.")
@click.option(
    "--n-best",
    "number",
    type=click.IntRange(min=1),
    help="So many different captions for each image, the best first, with log p(text | image) in nats.",
)
@click.option("--language", metavar="CODE", help="Write in it: one of model.text_decoder.languages; by default in whichever is likeliest.")
@click.option("--beams", type=click.IntRange(min=1), help="Texts that are followed at once to find the likeliest; by default the recipe's.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="0 takes the likeliest word each time, otherwise words are drawn.",
)
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Words are drawn among the likeliest that together have this probability.",
)
@common_options
def command(
    run: Path,
    images: tuple[Path, ...],
    file: Path | None,
    output: Path | None,
    number: int | None,
    beams: int | None,
    as_json: bool,
    overwrite: bool,
    device: str | None,
    **how: Any,
) -> None:
    """Write a caption for each image with the trained model of RUN.

    Images may have any size and mode: each is resized as the model's data were. Folders are searched at any depth; what is hidden in them is passed over,
    and told. With -o the captions become a table that a recipe trains on.
    """
    from .images import read, sources

    if output is not None and output.suffix.lower() not in TABLES:
        raise UserError(f"{output}: expected a table ending in {', '.join(TABLES)}")
    require_new([] if output is None else [output], overwrite)
    found = sources(images, file)
    if output is not None and any(source.data is not None for source in found):
        raise UserError(f"-o {output}: a table names files, and an image from standard input has none")
    items: list[dict[str, Any]] = []
    with using(run, device) as model, told_of_ends():
        for chunk, pixels in read(model, found, "captioning"):
            if number is None:
                written = [[{"text": text}] for text in model.caption(list(pixels), beams=beams, **how)]
            else:
                best = model.captions(list(pixels), number, beams=beams, **how)
                written = [[{"text": one.text, "log_p": one.log_p} for one in each] for each in best]
            items += [{"image": str(source.path), "captions": each} for source, each in zip(chunk, written, strict=True)]
    if output is not None:
        _write(output, items, f"ibllm caption {run}", overwrite)
    result = {"run": str(run), "n_best": number, "beams": beams, **how, "table": None if output is None else str(output), "items": items}
    rows = [(item["image"], one["text"], *([f"{one['log_p']:.3f}"] if number else [])) for item in items for one in item["captions"]]
    tell(result, rows, as_json, ("image", "caption", "log p") if number else ())


def _write(table: Path, items: Sequence[dict[str, Any]], by: str, overwrite: bool) -> None:
    """The table: image (relative to it), caption, written_by; a row for each caption. One without a word is no caption, and refused by `files`."""
    from ibllm_core.runs.directory import write_text

    from .common import note

    base = os.path.abspath(table.parent)
    rows = [
        {"image": os.path.relpath(os.path.abspath(item["image"]), base).replace(os.sep, "/"), "caption": one["text"], "written_by": by}
        for item in items
        for one in item["captions"]
        if one["text"].strip()
    ]
    empty = sum(not one["text"].strip() for item in items for one in item["captions"])
    if empty:
        note(f"{table}: {empty} captions have no word and are left out")
    if any(row["image"].startswith("../") for row in rows):
        note(f"{table}: its images lie outside of its folder, and files reads them with outside = true alone")
    table.parent.mkdir(parents=True, exist_ok=True)
    if table.suffix.lower() == ".jsonl":
        write_text(table, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return
    text = io.StringIO()
    writer = csv.DictWriter(
        text, ["image", "caption", "written_by"], delimiter="\t" if table.suffix.lower() == ".tsv" else ",", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    require_new([table], overwrite)
    write_text(table, text.getvalue())
