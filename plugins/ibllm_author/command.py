"""``ibllm plugin``: write a plugin package, or look over an installed one."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def command() -> None:
    """Write a package with a part of your own, or look over one that is installed."""


@command.command()
@click.argument("name")
@click.option("--kind", required=True, metavar="KIND", help="What it brings: a kind as `ibllm plugins` lists them, e.g. text_encoder.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Folder of the package; by default NAME, here.")
@click.option("--into", metavar="PACKAGE", help="Add the component to a package: its folder, or its name if it is installed with pip -e.")
def new(name: str, kind: str, folder: Path | None, into: str | None) -> None:
    """Write NAME, a complete package with one working component: code, options, tests, a recipe, README, CI.

    NAME is the distribution's name. Its component is called the same, without a leading ibllm- and with _ for -. Nothing that exists is changed.

    With --into, NAME is the component's: module, options and test are new files, and the package's plugin module gets one more ComponentSpec, which is
    shown. Where that cannot be done safely nothing is written.
    """
    import shlex

    from ibllm_core.errors import UserError
    from ibllm_inspect.presets import require_kind

    from . import extend, scaffold

    require_kind(kind)
    if into is not None:
        if folder is not None:
            raise UserError("--dir is for a new package, --into for one that is there: give one of them")
        package = extend.find(into)
        addition = extend.plan(name, kind, package)
        extend.write(addition, package)
        for path in addition.files:
            click.echo(f"new      {path}")
        click.echo(f"changed  {package.plugin}\n{addition.diff}")
        click.echo(f"test     cd {shlex.quote(str(package.folder))} && python -m pytest")
        click.echo(f"check    ibllm plugin check {package.distribution}")
        return
    called, target = scaffold.create(name, kind, folder)
    click.echo(f"{kind}.{called.component} is in {target}/src/{called.package}")
    click.echo(f"next     cd {shlex.quote(str(target))}")
    click.echo('install  pip install -e ".[test]"')
    click.echo("test     python -m pytest")
    click.echo(f"try      ibllm run {name}:small")
    click.echo(f"check    ibllm plugin check {name}")


@command.command()
@click.argument("package")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: package, contract and speed of each component, import, docs.")
@click.option("--set", "sets", multiple=True, metavar="KIND.NAME.KEY=VALUE", help="An option of a component; may be repeated.")
@click.option(
    "--data", default="", metavar="NAME", help="The dataset that metrics are measured on; by default the package's own, else a stand-in."
)
@click.option("--against", multiple=True, metavar="KIND.NAME", help="Compare speed with this component instead; may be repeated.")
def check(package: str, as_json: bool, sets: tuple[str, ...], data: str, against: tuple[str, ...]) -> int:
    """Look over PACKAGE, an installed distribution or the name of its plugin: contract, speed, cost of importing, documentation.

    The contract is what ibllm_testing asks of every component of its kind; options stay at their defaults unless --set says otherwise. Speed
    is a pass of the component beside one of ibllm's own parts of the kind, in turns in one process. Exit code 1: a component breaks its contract,
    could not be tested, or could not be loaded.
    """
    from ibllm_core.host.manager import manager

    from . import review

    found = review.review(manager(), package, sets, data, against, lambda text: click.echo(text, err=True))
    click.echo(review.as_json(found) if as_json else review.as_text(found))
    return 0 if found.passed else 1
