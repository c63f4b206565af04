"""``ibllm scene``: draw a world larger than the model's canvas from a script."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ibllm_core.errors import UserError
from ibllm_use.common import (
    common_options,
    examples,
    lines_of,
    output_option,
    require_new,
    run_argument,
    tell,
    using,
)

if TYPE_CHECKING:
    from .world import Region, Scene

EXAMPLES = examples(
    "ibllm scene runs/joint fair.txt -o fair.html",
    "ibllm scene runs/joint fair.txt -o fair.png --enlarge 8",
    "ibllm scene runs/free walk.txt -o walk.html --best-of 32",
    "ibllm scene runs/flow fair.txt -o fair.html --seed 3 --steps 16",
    "printf 'a large red circle at the top left\\na small blue ring at the bottom right\\n' | ibllm scene runs/joint - -o two.html",
)
#: Endings of a page's and of a picture's file.
PAGES, PICTURES = (".html", ".htm"), (".png", ".webp", ".jpg", ".jpeg")


@click.command(name="scene", epilog=EXAMPLES)
@run_argument
@click.argument("script", type=click.Path(path_type=Path, allow_dash=True))
@output_option("The page (.html), or the picture alone (.png, .webp, .jpg).")
@click.option(
    "--enlarge",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Pixels a side for each of a picture's.",
)
@click.option(
    "--captions",
    is_flag=True,
    help="Take every caption as it is, a window each, though the data's captions name cells; places are then in canvases.",
)
@click.option(
    "--overlap",
    type=click.FloatRange(0, 0.5),
    help="Of neighbouring captions' windows, relative to a canvas, where captions name no cells; by default a sixteenth.",
)
@click.option(
    "--best-of",
    type=click.IntRange(1, 256),
    default=1,
    help="Draw each caption so often and take the drawings that fit best where neighbours overlap; where captions name no cells.",
)
@click.option("--guidance", type=float, help="How much the text counts, where the decoder has it.")
@click.option("--temperature", type=click.FloatRange(min=0), help="How much chance counts, where the decoder has it.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of drawing, where the decoder has them.")
@common_options
def command(
    run: Path,
    script: Path,
    output: Path | None,
    enlarge: int,
    captions: bool,
    overlap: float | None,
    best_of: int,
    seed: int,
    device: str | None,
    as_json: bool,
    overwrite: bool,
    **live: Any,
) -> None:
    """Draw a world larger than the canvas of RUN's model, read every region of it back, and write a page to look around in.

    SCRIPT is a text, a caption a line; the world goes once around through them. With COLUMN, ROW: before it, a line puts a thing in its place, in
    cells of the model's captions; places may lie between cells, and things may cross windows' edges. Where captions name no cells a line holds a
    caption, and places count in canvases. A line "title: …", "columns: …" or "rows: …" may come first; # begins a line that is not read; the script -
    is standard input.
    """
    if output is None:
        raise click.UsageError("where to? -o scene.html, or -o scene.png for the picture alone")
    if output.suffix.lower() not in (*PAGES, *PICTURES):
        raise UserError(f"{output}: expected a name that ends in {', '.join((*PAGES, *PICTURES))}")
    if enlarge > 1 and output.suffix.lower() in PAGES:
        raise click.UsageError("--enlarge is for pictures; a page enlarges by itself")
    require_new([output], overwrite)
    from .script import parse

    read = parse("\n".join(lines_of(script)), "standard input" if str(script) == "-" else str(script), strict=False)
    with using(run, device) as model:
        from .world import draw

        scene = draw(
            model,
            read,
            seed=seed,
            overlap=overlap,
            captions=captions,
            best_of=best_of,
            **{name: value for name, value in live.items() if value is not None},
        )
    _write(scene, output, enlarge, overwrite, [f"Model: {run}", f"Script: {read.name}"])
    tell({"run": str(run), "script": read.name, "file": str(output), **_plain(scene)}, _rows(scene, output), as_json)


def _write(scene: Scene, output: Path, enlarge: int, overwrite: bool, facts: list[str]) -> None:
    """Writes the page or the picture, whole or not at all."""
    from ibllm_core.runs.directory import write_text
    from ibllm_use import pictures

    if output.suffix.lower() in PICTURES:
        pictures.write(output, pictures.enlarge(scene.pixels, enlarge), overwrite)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, scene.page(facts))


def _plain(scene: Scene) -> dict[str, Any]:
    plan = scene.plan
    return {
        "seed": scene.seed,
        "title": scene.title,
        "width": plan.width,
        "height": plan.height,
        "canvas": {"width": plan.canvas[1], "height": plan.canvas[0]},
        "windows": len(plan.windows),
        "together": scene.together,
        "regions": [
            {
                **{name: getattr(region, name) for name in ("left", "top", "width", "height", "asked", "read", "agrees", "shown")},
                "lines": list(region.lines),
            }
            for region in scene.regions
        ],
    }


def _rows(scene: Scene, output: Path) -> list[list[str]]:
    """What the terminal is told: each region, then how many are right."""
    rows = [[str(number), region.asked, _verdict(region)] for number, region in enumerate(scene.regions, 1)]
    read = [region for region in scene.regions if region.agrees is not None]
    right = sum(bool(region.agrees) for region in read)
    said = f"{right} of {len(read)} regions read back as asked" if read else "the model has no parts that read"
    return [*rows, ["", str(output), said]]


def _verdict(region: Region) -> str:
    if region.read is None:
        return "not read"
    told = "as asked" if region.agrees else f"read as: {region.read or 'nothing at all'}"
    return (
        told
        if region.shown is None or region.shown == region.agrees
        else f"{told}; the data's reader {'finds it' if region.shown else 'does not find it'}"
    )
