"""``ibllm plugin``: a new plugin package, and what a maintainer needs to know of an installed one."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import UserError, nearest
from ..spec import KINDS


@click.group()
def command() -> None:
    """Write a package with a part of your own, or look over one that is installed."""


@command.command()
@click.argument("name")
@click.option("--kind", required=True, metavar="KIND", help="What it brings: a kind as `ibllm plugins` lists them, e.g. text_encoder.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Folder of the package; by default NAME, here.")
def new(name: str, kind: str, folder: Path | None) -> None:
    """Write NAME, a complete package with one working component: code, options, tests, a recipe, README, CI.

    NAME is the distribution's name. Its component is called the same, without a leading ibllm- and with _ for -. Nothing that exists is changed.
    """
    if kind not in KINDS:
        guess = nearest(kind, KINDS)
        raise UserError(f"no kind {kind!r}" + (f"; did you mean {guess!r}?" if guess else f"; kinds are: {', '.join(KINDS)}"))
    import shlex

    from ..author import scaffold

    called, target = scaffold.create(name, kind, folder)
    click.echo(f"{kind}.{called.component} is in {target}/src/{called.package}")
    click.echo(f"next     cd {shlex.quote(str(target))}")
    click.echo('install  pip install -e ".[test]"')
    click.echo("test     python -m pytest")
    click.echo(f"try      ibllm run {name}:small")
    click.echo(f"check    ibllm plugin check {name}")
