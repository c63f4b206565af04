"""``ibllm generate``: draw pictures for texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .common import (
    common_options,
    examples,
    from_option,
    note,
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
    from .pictures import Pixels

EXAMPLES = examples(
    'ibllm generate runs/joint "a small red circle at the top left and a large blue square at the bottom right" -o out.png',
    'ibllm generate runs/joint "a large green ring at the top left" -n 8 --seed 3 -o eight.png',
    "ibllm generate runs/joint --from captions.txt -o drawings/",
    'ibllm generate runs/joint "a large green ring at the top left" --best-of 16 -o best.png',
)


@click.command(name="generate", epilog=EXAMPLES)
@run_argument
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@from_option("Texts, one a line")
@output_option("A picture (with several: one labelled sheet of them), or a folder for one file each.")
@click.option(
    "-n", "number", type=click.IntRange(min=1), default=1, show_default=True, help="Pictures of each text, each with other noise."
)
@click.option(
    "--best-of",
    type=click.IntRange(min=1),
    default=1,
    help="Draw so many for each picture and keep the one that the model itself likes best.",
)
@click.option(
    "--by",
    type=click.Choice(("reading", "agreement")),
    default="reading",
    show_default=True,
    help="What --best-of compares by: log p of the text given the drawing, or the agreement of both.",
)
@click.option("--guidance", type=float, help="How much the text counts, where the decoder has it.")
@click.option("--temperature", type=click.FloatRange(min=0), help="How much chance counts, where the decoder has it.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of drawing, where the decoder has them.")
@common_options
def command(
    run: Path,
    texts: tuple[str, ...],
    file: Path | None,
    output: Path | None,
    number: int,
    as_json: bool,
    overwrite: bool,
    device: str | None,
    **how: Any,
) -> None:
    """Draw a picture for each TEXT with the trained model of RUN.

    RUN is a run directory, its model folder, or a folder in Hugging Face's layout. One text and one picture give the picture as the model draws it;
    several give a sheet, enlarged and labelled, or with a folder a file each. Files that are there already are refused.
    """
    from .pictures import is_file, names

    asked = texts_from(texts, file)
    if output is None:
        raise click.UsageError("where to? -o out.png, or -o folder/ for a file each")
    one = is_file(output)
    places = [output] if one else [output / name for name in names(asked, number)]
    require_new(places, overwrite)
    with using(run, device) as model:
        each = max(number, how["best_of"])
        drawn = of_texts(model, asked, "drawing", lambda chunk: model.generate(chunk, n=number, output="numpy", **how), each)
    pixels = [list(each) if number > 1 else [each] for each in drawn]
    _write(places, one, asked, pixels, overwrite)
    files = [[str(output)] if one else [str(place) for place in places[k * number : (k + 1) * number]] for k in range(len(asked))]
    items = [{"text": text, "files": drawings} for text, drawings in zip(asked, files, strict=True)]
    rows = [(place, short(text)) for text, drawings in zip(asked, files, strict=True) for place in drawings]
    if one and len(asked) * number > 1:
        rows = [(str(output), f"{len(asked) * number} pictures")]
    if how["best_of"] > 1:
        note(
            f"each picture is the best of {how['best_of']} drawings by the model's own {how['by']}; it is no fair sample of what the model draws"
        )
    tell({"run": str(run), "n": number, **how, "items": items}, rows, as_json)


def _write(places: Sequence[Path], one: bool, texts: Sequence[str], pixels: Sequence[Sequence[Pixels]], overwrite: bool) -> None:
    """Writes a file for each picture, or one for all."""
    from .pictures import Group, Picture, enlarge, sheet, write

    drawn = [picture for each in pixels for picture in each]
    if not one or len(drawn) == 1:
        for place, picture in zip(places, drawn, strict=True):
            write(place, enlarge(picture, 1), overwrite)
    elif len(drawn) == len(texts):
        write(places[0], sheet([Group([Picture(picture, text) for picture, text in zip(drawn, texts, strict=True)])]), overwrite)
    else:
        write(
            places[0],
            sheet([Group([Picture(picture) for picture in each], text) for each, text in zip(pixels, texts, strict=True)]),
            overwrite,
        )
