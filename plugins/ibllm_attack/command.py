"""``ibllm attack``: how a trained model does under attack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ibllm_core.errors import UserError, suggestion
from ibllm_use.common import device_option, examples, json_option, note, overwrite_option, progress, require_new_folder, run_argument, using

from .strengths import AGAINST, KNOBS, USE, chosen

if TYPE_CHECKING:
    from ibllm.trained import Trained

EXAMPLES = examples(
    "ibllm attack runs/joint --image.epsilon 0,2/255,4/255,8/255",
    "ibllm attack runs/joint --use square --set queries=500 --items 64",
    "ibllm attack runs/joint --text.changes 0,1,2 --use words",
    "ibllm attack runs/joint --transfer runs/other",
    "ibllm attack runs/joint --split train --image.epsilon 8/255 --save attacked",
)
#: What may be attacked.
TARGETS = ("captioning", "answers", "agreement", "drawing", "cycle", "latent")


@click.command(name="attack", epilog=EXAMPLES)
@run_argument
@click.option("--of", type=click.Choice(tuple(KNOBS)), help="What is perturbed; by default what a strength is given of, else image.")
@click.option(
    "--image.epsilon",
    "image",
    metavar="LIST",
    help=f"How strongly images are perturbed, shares of the range from black to white; by default {KNOBS['image'][2]}.",
)
@click.option(
    "--embedding.epsilon",
    "embedding",
    metavar="LIST",
    help=f"How strongly embeddings of captions' words are, in their root mean square; by default {KNOBS['embedding'][2]}.",
)
@click.option("--text.changes", "text", metavar="LIST", help=f"How many changes captions get; by default {KNOBS['text'][2]}.")
@click.option("--use", help="The attack, a component of the kind perturbation; by default apgd, of texts typos.")
@click.option(
    "--against",
    type=click.Choice(TARGETS),
    help="What it makes worse; by default captioning of images, and of captions the cycle: that their drawings are read as something else.",
)
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="An option of the attack, e.g. steps=50; may be repeated.")
@click.option("--agent", type=click.Path(path_type=Path), metavar="FILE", help="Let a trained agent attack images, in the place of --use.")
@click.option("--split", metavar="S", help="Split whose items are attacked; by default the one that the data's tables show first.")
@click.option("--items", type=click.IntRange(min=1), default=128, show_default=True, help="The first so many items of it.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the attack's chance.")
@click.option(
    "--transfer", type=click.Path(path_type=Path), metavar="OTHER", help="Show the perturbed items to a second trained model, too."
)
@click.option(
    "--save",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write the items under the strongest attack, for the dataset attacks.",
)
@device_option
@json_option
@overwrite_option
def command(
    run: Path,
    of: str | None,
    image: str | None,
    embedding: str | None,
    text: str | None,
    use: str | None,
    against: str | None,
    sets: tuple[str, ...],
    agent: Path | None,
    split: str | None,
    items: int,
    seed: int,
    transfer: Path | None,
    save: Path | None,
    device: str | None,
    as_json: bool,
    overwrite: bool,
) -> None:
    """Measure the trained model of RUN on items that are perturbed to make it fail, strength by strength.

    Every figure that tells of what is perturbed is given for each strength, shares with their 95 % interval. RUN keeps the result in attack.json and shows it
    in report.html; nothing else in RUN is changed.
    """
    what, levels = chosen(of, {"image": image, "embedding": embedding, "text": text})
    _refuse(what, use, against, agent, save, transfer)
    if save is not None:
        from .saving import FILE

        require_new_folder(save, overwrite, FILE)
    with using(run, device) as opened:
        from .attacking import Attack, known_use, options_of, require
        from .result import Result, store

        split = _split(opened, split)
        require(what, opened)
        attack = Attack(opened, what, use or USE[what], against or AGAINST[what], seed, {} if agent is not None else options_of(sets))
        play = None
        if agent is None:
            known_use(attack.use)
        else:
            from .playing import player

            play = player(opened, agent, split, options_of(sets))
        own = what == "text" and agent is None and _says_its_own(attack, levels)
        other = None if transfer is None else _second(transfer, opened, device, what)
        count = _count(opened, split, items)
        from .measuring import measure

        with progress("attacking", count * len(levels)) as advance:
            evaluation_seed = opened.recipe.seed.evaluation
            found = measure(attack, levels, split, count, evaluation_seed, own, other, play, advance)
        result = Result.made(attack, levels, split, found, own, agent, run, transfer)
        for remark in result.remarks:
            note(remark)
        kept = store(run, result)
        if save is not None:
            from .saving import save_items

            save_items(save, opened, attack, result.use, levels[-1], split, found.samples, found.attacked[-1])
    _tell(result, kept, run, save, as_json)


def _refuse(of: str, use: str | None, against: str | None, agent: Path | None, save: Path | None, transfer: Path | None) -> None:
    """Raises `UserError` for options that do not go together."""
    if agent is not None and (of != "image" or use is not None or against not in (None, "captioning")):
        raise UserError(
            "--agent attacks the captioning of images by itself: expected neither --use nor --of, --against or a strength of something else"
        )
    if of == "embedding" and (save is not None or transfer is not None):
        name = "--save" if save is not None else "--transfer"
        raise UserError(f"{name} with embeddings: they are this model's alone; expected images or texts")


def _split(opened: Trained, split: str | None) -> str:
    """The split that is attacked. Raises `UserError` where there is none of that name."""
    from ibllm_core.host.options import DatasetConfig

    config = opened.recipe.data.config
    assert isinstance(config, DatasetConfig)
    known = tuple(config.splits())
    if split is not None and split not in known:
        raise UserError(f"no split {split!r} in {opened.recipe.data.use}; {suggestion(split, known)}")
    return split or config.primary_split()


def _count(opened: Trained, split: str, items: int) -> int:
    """How many items are attacked; told where there are less than were asked for."""
    there = opened.dataset.sizes()[split]
    if there < items:
        note(f"the split {split} has {there} items, not {items}: all of them are attacked")
    return min(there, items)


def _says_its_own(attack: Any, levels: Any) -> bool:
    """Whether a changed text is held against itself, not against what it was."""
    strongest = levels[-1]
    config = getattr(attack.at(strongest), "config", None) if strongest.value else None
    return getattr(config, "means", "same") == "own"


def _second(path: Path, opened: Trained, device: str | None, of: str) -> Trained:
    """The model that is shown what was perturbed for another. Raises `UserError` where it cannot read it."""
    import ibllm

    from .attacking import require

    other = ibllm.open(path, device=device)
    require(of, other)
    if other.model.image_shape != opened.model.image_shape:
        shapes = " and ".join("×".join(map(str, one.model.image_shape)) for one in (opened, other))
        raise UserError(f"--transfer {path}: its images have another shape (c h w): {shapes}")
    return other


def _tell(result: Any, kept: Mapping[str, Path], run: Path, save: Path | None, as_json: bool) -> None:
    """The result on standard output, and where it is."""
    import json

    from ibllm_cli.terminal import shown

    if as_json:
        click.echo(json.dumps(result.plain(), indent=2, ensure_ascii=False, allow_nan=False))
        return
    from rich.console import Console

    from .result import tables

    console = Console()
    for table in tables(result):
        console.print(table)
    for name, path in kept.items():
        click.echo(f"{name}   {shown(path)}")
    if not kept:
        click.echo(f"{shown(run)} is no run directory: nothing was kept", err=True)
    if save is not None:
        click.echo(f"saved    {shown(save)}")
