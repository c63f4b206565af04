"""``ibllm plugins``: what is installed, what failed to load and why, and what a component's options mean."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs
import click

from ..errors import UserError, nearest
from ..host.entry_points import BLOCK, tools_by_name
from ..host.manager import Manager, Row, manager, require_kind
from ..host.spec import KINDS, ComponentSpec
from .recipes import list_files, shorten

if TYPE_CHECKING:
    from ..host.options import Config
    from ..recipe.words import OptionRow


@click.group(invoke_without_command=True)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="A JSON list of rows: kind, name, summary, distribution, version, status, error, plugin, remedy, file, hooks, api.",
)
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the components of all installed plugins, and the plugins that failed to load."""
    if ctx.invoked_subcommand is not None:
        return
    found = manager()
    if as_json:
        import json

        click.echo(json.dumps([attrs.asdict(row) for row in found.rows()], indent=2, ensure_ascii=False))
    else:
        click.echo(_table(found.rows()))
    for name in found.unmatched_blocks():
        guess = nearest(name, tools_by_name().union(row.plugin for row in found.rows()))
        near = f"; did you mean {guess!r}?" if guess else ""
        click.echo(f"note: {BLOCK} names {name!r}, which no installed plugin or tool is called{near}", err=True)


@command.command()
@click.argument("component", metavar="KIND.NAME")
def show(component: str) -> None:
    """Show a component's options and what it provides and needs, e.g. text_encoder.lstm."""
    kind, _, name = component.partition(".")
    require_kind(kind)
    found = manager()
    if not name:
        raise UserError(f"expected {kind}.NAME; there are: {', '.join(f'{kind}.{known}' for known in found.names(kind)) or 'none'}")
    click.echo(_page(found, kind, name))


@command.command()
@click.argument("page", metavar="[PACKAGE[:PAGE]]", required=False)
@click.option("--json", "as_json", is_flag=True, help="A JSON list of rows: address, summary, distribution, version, path.")
def docs(page: str | None, as_json: bool) -> None:
    """List the pages of documentation that packages bring, or print one of them."""
    from ..host import packaged

    if page is not None and ":" in page:
        click.echo(packaged.find("docs", page).path.read_text(encoding="utf-8", errors="replace"), nl=False)
        return
    list_files("docs", page, as_json)
    url = packaged.documentation_url(page) if page and not as_json else ""
    if url:
        click.echo(f"\non the web: {url}")


def _table(rows: Iterable[Row]) -> str:
    """Components by kind; below them what failed or is blocked."""
    rows = list(rows)
    usable = [row for row in rows if row.status == "ok"]
    name_width = max((len(row.name) for row in usable), default=0)
    source_width = max((len(_source(row)) for row in usable), default=0)
    room = max(20, shutil.get_terminal_size((120, 24)).columns - name_width - source_width - 6)
    lines: list[str] = []
    for kind in KINDS.values():
        of_kind = [row for row in usable if row.kind == kind.name]
        if of_kind:
            lines += ["", f"{click.style(kind.name, bold=True)}  {click.style(kind.summary, dim=True)}"]
        lines += [f"  {row.name:<{name_width}}  {shorten(row.summary, room):<{room}}  {_source(row)}" for row in of_kind]
    hooks = {row.plugin: f"  {row.plugin} of {_source(row)}: {', '.join(row.hooks)}" for row in rows if row.hooks and row.status == "ok"}
    if hooks:
        lines += ["", click.style("lifecycle hooks", bold=True) + "  " + click.style("called in runs that name the plugin", dim=True)]
        lines += hooks.values()
    lines += _section("failed to load or cannot be used", [row for row in rows if row.status == "error"], "red")
    lines += _section("blocked", [row for row in rows if row.status == "blocked"], "yellow")
    return "\n".join(lines).lstrip("\n") or "no plugins are installed"


def _section(title: str, rows: list[Row], colour: str) -> list[str]:
    heading = ["", click.style(title, bold=True, fg=colour)] if rows else []
    return heading + [f"  {row.label} of {_source(row)}: {row.error}" + (f"; {row.remedy}" if row.remedy else "") for row in rows]


def _source(row: Row) -> str:
    return f"{row.distribution} {row.version}"


def _page(found: Manager, kind: str, name: str) -> str:
    from ..recipe.words import options_of

    spec, origin, config = found.get(kind, name), found.origin(kind, name), found.config_class(kind, name)
    options = options_of(config)
    facts = [
        ("kind", KINDS[kind].summary),
        ("axes", KINDS[kind].axes),
        ("from", f"{origin.distribution} {origin.version}"),
        ("factory", spec.factory),
        ("config", spec.config),
        ("docs", _documentation(origin.distribution)),
    ]
    facts += [(word, ", ".join(sorted(words)) or "nothing") for word, words in _capabilities(found, spec, config, options)]
    lines = [click.style(f"{kind}.{name}", bold=True) + f"  {spec.summary}", ""]
    lines += [f"  {title:<8}  {text}" for title, text in facts if text]
    lines += ["", click.style("options", bold=True) if options else "It has no options."]
    for option in options:
        default = "required" if option.required else f"default {option.default}"
        lines.append(f"  {click.style(option.key, bold=True)}: {', '.join(part for part in (option.type, default, option.range) if part)}")
        lines.append(f"      {option.help}")
    return "\n".join(lines)


def _documentation(distribution: str) -> str:
    """Where a package's own documentation is; empty where it brings none."""
    from ..host import packaged

    pages = f"ibllm plugins docs {distribution}" if any(f.distribution == distribution for f in packaged.everything("docs")) else ""
    return ", ".join(place for place in (pages, packaged.documentation_url(distribution)) if place)


def _capabilities(
    found: Manager, spec: ComponentSpec, config: type[Config], options: Iterable[OptionRow]
) -> list[tuple[str, frozenset[str]]]:
    """What the component provides and needs with its default options; nothing is said where options are required."""
    from ..recipe.answers import check_answers

    if any(option.required for option in options):
        return []
    with found.blamed(spec.kind, spec.name, "the config"):
        default = config()
        check_answers(default)
        return [("provides", default.provides()), ("needs", default.needs())]
