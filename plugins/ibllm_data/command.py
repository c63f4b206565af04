"""``ibllm data``: look at a recipe's data; ``ibllm data clean``: remove what is kept of any."""

from __future__ import annotations

from pathlib import Path

import click

from ibllm_core.errors import UserError

#: What takes a recipe's place.
CLEAN = "clean"


@click.command(name="data")
@click.argument("recipe", type=click.Path(path_type=Path), metavar="RECIPE|clean")
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the recipe's seed, for data that draw their items.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a key, e.g. data.size=32; may be repeated.")
@click.option(
    "--items", type=click.IntRange(min=1), default=1000, show_default=True, help="Items of each split whose images are looked at."
)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a self-contained page, too, with pictures."
)
@click.option("--overwrite", is_flag=True, help="Write over FILE if it is there already.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def command(recipe: Path, seed: int | None, sets: tuple[str, ...], items: int, html: Path | None, overwrite: bool, as_json: bool) -> int:
    """Show what RECIPE's data are, before a step is spent: splits, images, texts, vocabularies, duplicates, and what is broken.

    The exit code is 2 where a run would be refused. ``ibllm data clean`` removes the decoded images that are kept of any data; they are made again where
    they are needed.
    """
    if str(recipe) == CLEAN:
        return _clean()
    from ibllm_core.host.attribution import naming, stdout_to_stderr
    from ibllm_core.recipe import load

    if html is not None and html.exists() and not overwrite:
        raise UserError(f"{html} is there already; choose another name, or write over it with --overwrite")
    resolved = load(recipe, sets, seed)
    from .looking import look

    with naming(resolved), stdout_to_stderr():
        found = look(resolved, items)
    if html is not None:
        from ibllm_core.runs.directory import write_text

        from .page import page

        write_text(html, page(found))
    if as_json:
        import json

        from .tables import plain

        click.echo(json.dumps(plain(found), indent=2, ensure_ascii=False))
    else:
        from rich.console import Console

        from .terminal import renderables

        console = Console(highlight=False)
        for one in renderables(found):
            console.print(one)
        if html is not None:
            click.echo(f"page  {html}")
    if found.refused:
        raise UserError("; ".join(found.refused))
    return 0


def _clean() -> int:
    from ibllm.images.cache import clean
    from ibllm.units import readable_bytes

    was = clean()
    click.echo(
        f"removed {was.files:,} file{'' if was.files == 1 else 's'}, {readable_bytes(was.bytes)}" if was.files else "nothing is kept"
    )
    return 0
