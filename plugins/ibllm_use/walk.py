"""``ibllm walk``: a path between captions, or between noises of one caption, in pictures."""

from __future__ import annotations

from pathlib import Path

import click

from ibllm_core.errors import UserError

from .common import (
    common_options,
    examples,
    from_option,
    output_option,
    require_new,
    run_argument,
    tell,
    texts_from,
    using,
)

EXAMPLES = examples(
    'ibllm walk runs/joint "a small red circle at the top left" "a large blue ring at the top left" -o strip.png',
    'ibllm walk runs/joint "a large green ring at the top left" "a small green ring at the bottom right" --steps 24 -o walk.gif',
    'ibllm walk runs/joint "a large green ring at the top left" --noise -o noise.webp',
)


@click.command(name="walk", epilog=EXAMPLES)
@run_argument
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@from_option("Texts, one a line")
@output_option("A strip (.png, .jpg, …) or an animation (.gif, .webp, .apng); .webp is an animation.")
@click.option(
    "--steps",
    type=click.IntRange(min=2, max=1000),
    help="Pictures from one text (or noise) to the next, both included; by default 8 in a strip, 24 in an animation.",
)
@click.option("--noise", is_flag=True, help="Walk from noise to noise instead, the text fixed; for decoders that draw in one pass.")
@click.option(
    "--through",
    type=click.IntRange(min=2),
    default=2,
    show_default=True,
    help="With --noise: noises to walk through, of the seeds SEED, SEED + 1, ….",
)
@click.option("--seconds", type=click.FloatRange(0.02, 10), default=0.1, show_default=True, help="Of each picture in an animation.")
@common_options
def command(
    run: Path,
    texts: tuple[str, ...],
    file: Path | None,
    output: Path | None,
    steps: int | None,
    noise: bool,
    through: int,
    seconds: float,
    seed: int,
    device: str | None,
    as_json: bool,
    overwrite: bool,
) -> None:
    """Draw what lies between the TEXTs in the latent of RUN's trained model.

    The noise stays the same on the way, so that only the text changes; with --noise the text stays and the noise changes.
    The first picture is what `ibllm generate` draws of the first text with the same seed.
    """
    from .latents import between_noises, between_texts
    from .pictures import MOVING, STILL, Group, Picture, require_ending, sheet, times_for, write, write_animation

    asked = texts_from(texts, file)
    if noise != (len(asked) == 1):
        raise UserError(
            "--noise walks the noise of one text" if noise else "expected at least two texts to walk between, or one with --noise"
        )
    if output is None:
        raise click.UsageError("where to? -o strip.png, or -o walk.gif for an animation")
    require_ending(output, (*STILL, *MOVING))
    require_new([output], overwrite)
    moving = output.suffix.lower() in MOVING
    count = steps or (24 if moving else 8)
    with using(run, device) as model:
        frames = (
            between_noises(model, asked[0], [seed + k for k in range(through)], count)
            if noise
            else between_texts(model, asked, seed, count)
        )
    if moving:
        write_animation(output, list(frames), overwrite, seconds, times_for(frames[0]))
    else:
        ends = {k * (count - 1): text for k, text in enumerate([f"noise {seed + k}" for k in range(through)] if noise else asked)}
        write(
            output,
            sheet(
                [Group([Picture(frame, ends.get(k, "")) for k, frame in enumerate(frames)], asked[0] if noise else "")], columns=len(frames)
            ),
            overwrite,
        )
    result = {"run": str(run), "texts": asked, "noise": noise, "seed": seed, "pictures": len(frames), "file": str(output)}
    tell(result, [(str(output), f"{len(frames)} pictures", "animation" if moving else "strip")], as_json)
