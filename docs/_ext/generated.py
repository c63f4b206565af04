"""The parts of the reference that are written by the code itself.

What stands in a page between the comments ``<!-- generated: NAME [ARGUMENT] -->`` and ``<!-- end -->`` is what the function NAME below gives for
ARGUMENT, as MyST text: the pages can be read in the repository. Sphinx replaces it when it reads a page; ``python docs/_ext/generated.py --write``
writes it into the pages, and a test compares them.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import markup
import measured as measured_figures
import plugin_reference
import pretrained_memory as pretrained_models
from commands_and_checks import commands, conformance, fixtures
from ibllm_inspect.options import OptionRow, options_of
from ibllm_study.budget import Budget
from ibllm_study.schema import Factorial, Range, Search, Sequential, StudyTable
from ibllm_watch.symptoms import SYMPTOMS

from ibllm.capabilities import CAPABILITIES
from ibllm.kinds import KINDS
from ibllm.launching import launcher_class
from ibllm.launching import launchers as known_launchers
from ibllm_core.host.entry_points import origin_of
from ibllm_core.host.manager import manager
from ibllm_core.host.options import Config, DatasetConfig, MetricConfig
from ibllm_core.recipe.schema import PARTS, SECTIONS, Init, PartEntry, Recipe, SharedEntry
from ibllm_core.recipe.words import PART, Section, article, keys, sections, types_of

DISTRIBUTION = "ibllm"
#: Tables of a recipe that stand in several places, and what their description is called.
SHARED: Mapping[type[Config], str] = {Init: "init"}
_SECTION = re.compile(r"^(<!-- generated: (\w+)(?: (\S+))? -->\n).*?^(<!-- end -->)$", re.MULTILINE | re.DOTALL)
DOCS = Path(__file__).resolve().parents[1]


def kinds(_: str = "") -> str:
    """Every kind with its axes."""
    rows = [(f"[{kind.name}](components/{kind.name}.md)", markup.plain(kind.summary), markup.plain(kind.axes)) for kind in KINDS.values()]
    return markup.table(("kind", "what it is", "axes"), rows)


def capabilities(_: str = "") -> str:
    """Every word of `provides` and `needs` with its promise and the components that use it."""
    gives: dict[str, list[str]] = {word: [] for word in CAPABILITIES}
    asks: dict[str, list[str]] = {word: [] for word in CAPABILITIES}
    for kind, name in own_components():
        config = _default(kind, name)
        if config is None:
            continue
        for word in config.provides():
            gives[word].append(markup.link(kind, name))
        for need in config.needs():
            word = need.partition(".")[2]
            if word:
                asks[word].append(markup.link(kind, name))
    return "\n\n".join(
        f"`{word}`\n: {markup.plain(promise)}\\\n  provided by {', '.join(gives[word]) or 'nobody yet'}; needed by {', '.join(asks[word]) or 'nobody yet'}"
        for word, promise in CAPABILITIES.items()
    )


def components(kind: str) -> str:
    """Every component of a kind, with its options."""
    found = [name for of, name in own_components() if of == kind]
    module, _, cls = KINDS[kind].interface.partition(":")
    axes = f"- axes: {markup.plain(KINDS[kind].axes)}\n" if KINDS[kind].axes else ""
    what = f"{markup.plain(KINDS[kind].summary)}\n\n{axes}- [interface](../interfaces.md): `{module}.{cls}`"
    if not found:
        return f"{what}\n\nNone of the plugins that come with ibllm offers one; the kind is there for other packages."
    return "\n\n".join([what, *(component(kind, name) for name in found)])


def component(kind: str, name: str) -> str:
    """One component: what it is, what it can and asks for, its options."""
    spec, config = manager().get(kind, name), manager().config_class(kind, name)
    lines = [f"({markup.anchor(kind, name)})=", f"## {name}", "", f"{markup.plain(spec.summary)}.", ""]
    if config.__doc__:
        lines += [markup.plain(inspect.cleandoc(config.__doc__)), ""]
    default = _default(kind, name)
    if default is not None:
        lines += [f"- provides: {markup.words(default.provides())}", f"- needs: {markup.words(default.needs())}"]
        lines += [f"- a stage may train alone: {', '.join(f'`{name}`' for name in default.trainable())}"] if default.trainable() else []
    lines += [f"- factory: `{spec.factory}`", "", options(options_of(config))]
    return "\n".join(lines)


def recipe(_: str = "") -> str:
    """The recipe's own keys, then every table: what it is for, the component that it names, and the keys beside that one's options."""
    parts = []
    for title, section, config in recipe_tables():
        parts.append(f"## {title}")
        if section is not None and section.help:
            named = " or ".join(f"{article(kind).split()[0]} [{kind}](components/{kind}.md)" for kind in _kinds(section))
            otherwise = f" Where it is left out: `{section.otherwise}`." if section.otherwise else ""
            parts.append(f"{markup.plain(section.help[0].upper() + section.help[1:])}." + (f" Names {named}." if named else "") + otherwise)
        if config is not None and keys(config):
            parts += [markup.plain(inspect.cleandoc(config.__doc__ or "").partition("\n\n")[0]), options(options_of(config))]
    return "\n\n".join(parts)


def study(_: str = "") -> str:
    """The study's own keys, then its tables."""
    tables = {
        "keys": StudyTable,
        "`[factorial]`": Factorial,
        "`[sequential]`": Sequential,
        "`[search]`": Search,
        "`[budget]`": Budget,
        "range": Range,
    }
    return "\n\n".join(
        f"## {title}\n\n{markup.plain(inspect.cleandoc(config.__doc__ or ''))}\n\n{options(options_of(config))}"
        for title, config in tables.items()
    )


def launchers(_: str = "") -> str:
    """Every launcher of this distribution with its options."""
    own = {name: launcher_class(name) for name, point in known_launchers().items() if origin_of(point).distribution == DISTRIBUTION}
    return "\n\n".join(
        f"## {name}\n\n{markup.plain(inspect.cleandoc(cls.options_class.__doc__ or ''))}\n\n{options(options_of(cls.options_class))}"
        for name, cls in own.items()
    )


def recipe_tables() -> list[tuple[str, Section | None, type[Config] | None]]:
    """Every table of a recipe: its title, what holds it, and the class of its own keys."""
    found: list[tuple[str, Section | None, type[Config] | None]] = [("top-level keys", None, Recipe)]
    for section in SECTIONS:
        found += _tables_at(section.name, section)
    return [*found, *((title, None, config) for config, title in SHARED.items())]


def _tables_at(path: str, section: Section) -> Iterable[tuple[str, Section | None, type[Config] | None]]:
    """A section's table, and those inside it that stand nowhere else."""
    path += (".PART" if section.of is PartEntry else ".NAME") if section.named else ""
    config = None if section.kind else section.of
    yield (f"`[{path}]`", section, config)
    for inner in sections(config) if config else ():
        if not inner.spread or inner.named:
            yield from _tables_at(path if inner.spread else f"{path}.{inner.name}", inner)
    for key, field in keys(config).items() if config else ():
        wanted = types_of(config)[field.name]
        for nested in (one for one in get_args(wanted) if isinstance(one, type) and issubclass(one, Config) and one not in SHARED):
            yield from _tables_at(f"{path}.{key}", Section(name=key, of=nested, help=""))


def _kinds(section: Section) -> tuple[str, ...]:
    """The kinds that a table may name with ``use``."""
    held = section if section.kind else next((one for one in sections(section.of) if one.spread and one.kind), section)
    if section.of is SharedEntry:
        return ("backbone",)
    return PARTS if held.kind == PART else (held.kind,) if held.kind else ()


def figures(_: str = "") -> str:
    """Every figure with its meaning and the metrics that give it."""
    found: dict[str, dict[str, list[str]]] = {}
    for kind, name in own_components():
        config = _default(kind, name)
        for figure in config.figures() if isinstance(config, MetricConfig) else ():
            caution = f" It is {figure.caution}." if figure.caution else ""
            better = f", {figure.better} is better" if figure.better else ""
            unit = f", in {figure.unit}" if figure.unit else ""
            said = f"{markup.plain(figure.meaning + caution)}\\\n  {figure.direction}{better}{unit}"
            found.setdefault(figure.name, {}).setdefault(said, []).append(markup.link(kind, name))
    entries = []
    for name, texts in found.items():
        meanings = "\n".join(f": {said}; given by {', '.join(by)}" for said, by in texts.items())
        entries.append(f"`{name}`\n{meanings}")
    return "\n\n".join(entries)


def splits(_: str = "") -> str:
    """Every dataset's splits, those that are reported by default first."""
    entries = []
    for kind, name in own_components():
        config = _default(kind, name) if kind == "dataset" else None
        if isinstance(config, DatasetConfig):
            rows = [
                (f"`{split}`", markup.plain(text), " ".join(_uses(config, split)))
                for split, text in sorted(config.splits().items(), key=lambda entry: entry[0] not in config.reported_splits())
            ]
            entries.append(
                f"### {markup.link(kind, name)}\n\n{markup.table(('split', 'what it holds', 'unless a recipe says otherwise'), rows)}"
            )
    return "\n\n".join(entries)


def _uses(config: DatasetConfig, split: str) -> Iterable[str]:
    if split in config.reported_splits():
        yield "reported" + (", looked at first" if split == config.primary_split() and len(config.reported_splits()) > 1 else "")
    if split == config.validation_split():
        yield "validated on"


def measured(name: str) -> str:
    """Figures of runs of a recipe that were really made; where there is none yet, the commands that take some in."""
    if (measured_figures.FOLDER / f"{name}.json").is_file():
        return measured_figures.table(name)
    said = "The recipe has not been run for this page yet, so it has no figures. These commands take those of finished runs in and write the page anew:"
    return f"{said}\n\n```sh\npython docs/_ext/measured.py runs/{name}*\npython docs/_ext/generated.py --write\n```"


def stages(name: str) -> str:
    """What the stages of a recipe's runs were worth; nothing where there is none yet."""
    return measured_figures.stages(name) if (measured_figures.FOLDER / f"{name}.json").is_file() else ""


def differences(name: str) -> str:
    """The differences between a study's arms, on a page of ``docs/studies/``; where it has not been run yet, the commands that do."""
    if (DOCS / "measured" / "studies" / name / "forest.html").is_file():
        return f"```{{raw}} html\n:file: ../measured/studies/{name}/forest.html\n```"
    study = f"recipes/ablations/{name}.toml"
    said = "The study has not been run for this page yet, so it has no figures. These commands run it, take its figures in and write the page anew:"
    takes = f"python docs/_ext/studies.py {study} studies/{name}\npython docs/_ext/generated.py --write"
    return f"{said}\n\n```sh\nibllm ablate {study} --study-dir studies/{name}\n{takes}\n```"


def curves(name: str) -> str:
    """A grid's curves, on a page of ``docs/studies/``; where it has not been run yet, the commands that do."""
    if (DOCS / "measured" / "studies" / name / "curves.html").is_file():
        return f"```{{raw}} html\n:file: ../measured/studies/{name}/curves.html\n```"
    return differences(name)


def interactions(name: str) -> str:
    """The interaction plots of a factorial study, on a page of ``docs/studies/``; nothing where it has not been run yet."""
    there = (DOCS / "measured" / "studies" / name / "interactions.html").is_file()
    return f"```{{raw}} html\n:file: ../measured/studies/{name}/interactions.html\n```" if there else ""


def findings(name: str) -> str:
    """A study's own table, on a page of ``docs/studies/``; nothing where it has not been run yet."""
    there = (DOCS / "measured" / "studies" / name / "table.md").is_file()
    return f"```{{include}} ../measured/studies/{name}/table.md\n```" if there else ""


def watched(name: str) -> str:
    """What a watch saw of each arm of a study with a critic, on a page of ``docs/studies/``."""
    folder = DOCS / "measured" / "studies" / name
    if (folder / "watched.md").is_file():
        return f"```{{include}} ../measured/studies/{name}/watched.md\n```"
    why = (
        "Its runs were made before there was a watch."
        if (folder / "table.md").is_file()
        else "The study has not been run for this page yet."
    )
    return f"{why} What a [watch](../how-to/gan.md) sees of each arm stands here as soon as its runs are taken in."


def symptoms(_: str = "") -> str:
    """What a watch looks for, how it shows, and what helps."""
    rows = [(f"`{one.name}`: {one.title}", one.shows, one.remedy) for one in SYMPTOMS.values()]
    return markup.table(("symptom", "how it shows", "what helps"), [tuple(map(markup.plain, row)) for row in rows])


def pretrained_memory(_: str = "") -> str:
    """What pretrained models take in memory, as ``docs/_ext/pretrained_memory.py`` measured it."""
    return pretrained_models.table()


def attacked(names: str) -> str:
    """Captions read with and without an attack, a row a recipe, as far as they were measured."""
    known = ",".join(name for name in names.split(",") if (measured_figures.FOLDER / f"{name}.json").is_file())
    return measured_figures.attacked(known) if known else "Not measured."


def families(_: str = "") -> str:
    """Figures and costs of the recipes of every family, side by side."""
    return measured_figures.families()


def hooks(_: str = "") -> str:
    """Every hook: a table, what the arguments are, then each with its example."""
    header, rows = plugin_reference.hook_table()
    table = markup.table(header, [(name, markup.plain(when), told) for name, when, told in rows])
    arguments = "\n\n".join(f"`{name}`\n: {markup.plain(meaning)}" for name, meaning in plugin_reference.hook_arguments())
    examples = "Every example begins with `from ibllm.plugin import ComponentSpec, hookimpl`; together they are `docs/examples/hooks.py`."
    return "\n\n".join([table, arguments, examples, plugin_reference.hook_sections()])


def surface(_: str = "") -> str:
    """Every name of ``ibllm.plugin``, what it is, where it lives, and whether it comes without torch."""
    header, rows = plugin_reference.surface_table()
    return markup.table(header, [(f"`{name}`", markup.plain(what), f"`{module}`", free) for name, what, module, free in rows])


def interfaces(_: str = "") -> str:
    """Every kind's interface with its axes."""
    header, rows = plugin_reference.interface_table()
    return markup.table(header, [(kind, interface, markup.plain(axes), suite) for kind, interface, axes, suite in rows])


def options(rows: Iterable[OptionRow]) -> str:
    """A list of options."""
    entries = []
    for row in rows:
        default = "required" if row.required else "may be left out" if row.default == "none" else f"default `{row.default}`"
        facts = ", ".join(part for part in (markup.plain(row.type), default, *map(markup.plain, row.facts)) if part)
        entries.append(f"`{row.key}`\n: {markup.plain(row.help)}\\\n  *{facts}*")
    return "\n\n".join(entries) or "It has no options."


def own_components() -> list[tuple[str, str]]:
    """(kind, name) of every component of this distribution."""
    return [(row.kind, row.name) for row in manager().rows() if row.distribution == DISTRIBUTION and row.status == "ok"]


#: What a page may ask for.
GENERATORS: Mapping[str, Callable[[str], str]] = {
    f.__name__: f
    for f in (
        kinds,
        capabilities,
        components,
        recipe,
        study,
        launchers,
        figures,
        splits,
        measured,
        stages,
        differences,
        curves,
        findings,
        interactions,
        symptoms,
        watched,
        attacked,
        families,
        pretrained_memory,
        conformance,
        fixtures,
        hooks,
        surface,
        interfaces,
        commands,
    )
}


def expand(text: str) -> str:
    """A page with what it asks for. Raises `KeyError` for an unknown name."""
    return _SECTION.sub(lambda found: f"{found[1]}\n{GENERATORS[found[2]](found[3] or '').strip()}\n\n{found[4]}", text)


def pages() -> list[Path]:
    """The pages that ask for something."""
    found = [path for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts]
    return [path for path in found if _SECTION.search(path.read_text(encoding="utf-8"))]


def write() -> list[Path]:
    """Writes what has changed into the pages, and says which."""
    stale = [path for path in pages() if expand(path.read_text(encoding="utf-8")) != path.read_text(encoding="utf-8")]
    for path in stale:
        path.write_text(expand(path.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
    return stale


def setup(app: Any) -> dict[str, bool]:
    def on_read(_: Any, __: str, source: list[str]) -> None:
        source[0] = expand(source[0])

    def on_docstring(_: Any, __: str, ___: str, ____: object, _____: object, lines: list[str]) -> None:
        # "(b) scores" is a shape to us and an item of a list to reStructuredText.
        lines[:] = [re.sub(r"^(\s*)\((\w+)\) ", r"\1\\(\2) ", line) for line in lines]

    def on_signature(_: Any, __: str, ___: str, ____: object, _____: object, signature: str | None, returned: str | None) -> Any:
        # What torch's modules take says nothing of an interface.
        return ("", returned) if signature and signature.startswith("(*args: ") else None

    app.connect("source-read", on_read)
    app.connect("autodoc-process-docstring", on_docstring)
    app.connect("autodoc-process-signature", on_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _default(kind: str, name: str) -> Config | None:
    """The component's options at their defaults; None where some have none, but for a metric: its figures do not hang on whose folder it names."""
    config = manager().config_class(kind, name)
    required = [option.key for option in options_of(config) if option.required]
    return None if required and kind != "metric" else config(**dict.fromkeys(required, "x"))


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python docs/_ext/generated.py --write")
    for changed in write():
        print(changed.relative_to(DOCS.parent))
