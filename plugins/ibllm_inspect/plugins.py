"""``ibllm plugins``: list the components of all installed plugins. Shows too what failed to load and why, and what options mean."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs
import click

from ibllm.kinds import KINDS
from ibllm_cli.completion import components
from ibllm_core.errors import UserError, nearest
from ibllm_core.host.entry_points import BLOCK, tools_by_name
from ibllm_core.host.manager import Manager, Row, manager

from .presets import require_kind
from .recipes import list_files, shorten

if TYPE_CHECKING:
    from ibllm_core.host.options import Config


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

        click.echo(json.dumps([attrs.asdict(row) for row in found.rows()], indent=2))
    else:
        click.echo(_table(found.rows()))
    for name in found.unmatched_blocks():
        guess = nearest(name, tools_by_name().union(row.plugin for row in found.rows()))
        near = f"; did you mean {guess!r}?" if guess else ""
        click.echo(f"note: {BLOCK} names {name!r}, which no installed plugin or tool is called{near}", err=True)


@command.command()
@click.argument("component", metavar="KIND.NAME", shell_complete=components)
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
    from ibllm_core.host import packaged

    from .about import documentation_url

    if page is not None and ":" in page:
        click.echo(packaged.find("docs", page).path.read_text(encoding="utf-8", errors="replace"), nl=False)
        return
    list_files("docs", page, as_json)
    url = documentation_url(page) if page and not as_json else ""
    if url:
        click.echo(f"\non the web: {url}")


def _table(rows: Iterable[Row]) -> str:
    """Components by kind; below them the hooks, then what failed or is blocked."""
    rows = list(rows)
    usable = [row for row in rows if row.status == "ok"]
    width = max((len(row.name) for row in usable), default=0)
    room = max(20, shutil.get_terminal_size((120, 24)).columns - width - max((len(_source(row)) for row in usable), default=0) - 6)
    lines: list[str] = []

    def section(title: str, about: str, found: Iterable[str], colour: str | None = None) -> None:
        if found := list(found):
            lines.extend(["", click.style(title, bold=True, fg=colour) + (f"  {click.style(about, dim=True)}" if about else ""), *found])

    for kind in KINDS.values():
        own = (row for row in usable if row.kind == kind.name)
        section(kind.name, kind.summary, (f"  {row.name:<{width}}  {shorten(row.summary, room):<{room}}  {_source(row)}" for row in own))
    hooks = {row.plugin: f"  {row.plugin} of {_source(row)}: {', '.join(row.hooks)}" for row in usable if row.hooks}
    section("lifecycle hooks", "called in runs that name the plugin", hooks.values())
    for title, status, colour in (("failed to load or cannot be used", "error", "red"), ("blocked", "blocked", "yellow")):
        ill = (row for row in rows if row.status == status)
        section(title, "", (f"  {row.label} of {_source(row)}: {'; '.join(filter(None, (row.error, row.remedy)))}" for row in ill), colour)
    return "\n".join(lines).lstrip("\n") or "no plugins are installed"


def _page(found: Manager, kind: str, name: str) -> str:
    from ibllm_core.host import packaged

    from .about import documentation_url
    from .options import options_of

    spec, origin, config = found.get(kind, name), found.origin(kind, name), found.config_class(kind, name)
    options = options_of(config)
    pages = any(file.distribution == origin.distribution for file in packaged.everything("docs"))
    docs = (f"ibllm plugins docs {origin.distribution}" if pages else "", documentation_url(origin.distribution))
    facts = [
        ("kind", KINDS[kind].summary),
        ("axes", KINDS[kind].axes),
        ("from", f"{origin.distribution} {origin.version}"),
        ("factory", spec.factory),
        ("config", spec.config),
        ("docs", ", ".join(filter(None, docs))),
    ]
    if not any(option.required for option in options):
        facts += _capabilities(found, kind, name, config)
    lines = [click.style(f"{kind}.{name}", bold=True) + f"  {spec.summary}", ""]
    lines += [f"  {title:<8}  {text}" for title, text in facts if text]
    lines += ["", click.style("options", bold=True) if options else "It has no options."]
    for option in options:
        default = "required" if option.required else f"default {option.default}"
        lines.append(f"  {click.style(option.key, bold=True)}: {', '.join(part for part in (option.type, default, *option.facts) if part)}")
        lines.append(f"      {option.help}")
    return "\n".join(lines)


def _capabilities(found: Manager, kind: str, name: str, config: type[Config]) -> list[tuple[str, str]]:
    """What the component provides and needs with its default options."""
    from ibllm_core.recipe.draft import check_answers

    with found.blamed(kind, name, "the config"):
        default = config()
        check_answers(default)
        provides, needs, alone = default.provides(), default.needs(), default.trainable()
    facts = [(title, ", ".join(sorted(words)) or "nothing") for title, words in (("provides", provides), ("needs", needs))]
    return [*facts, *([("trains", f"a stage may train alone: {', '.join(alone)}")] if alone else [])]


def _source(row: Row) -> str:
    return f"{row.distribution} {row.version}"
