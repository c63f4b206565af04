"""Nothing that a user can name is undocumented: kinds, components, options, capabilities, recipe tables, hooks, commands, figures."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import attrs
import click
import pytest
from ibllm_cli.main import cli, own_commands
from ibllm_inspect.options import options_of
from ibllm_study.budget import Budget
from ibllm_study.schema import Range, Search, StudyTable
from ibllm_study.study_file import FREE
from ibllm_testing import SUITES, Suite
from ibllm_testing.parts import PartSuite

from ibllm.capabilities import CAPABILITIES
from ibllm.kinds import KINDS
from ibllm_core.host import entry_points, hookspecs, packaged
from ibllm_core.host.manager import manager
from ibllm_core.host.options import Config, DatasetConfig, MetricConfig
from ibllm_core.recipe import schema
from ibllm_core.recipe.words import Section
from ibllm_core.runs.directory import RunDirectory

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS / "_ext"))

import generated  # noqa: E402  # the extension of the documentation is no installed module
import markup  # noqa: E402
import measured  # noqa: E402
import pictures  # noqa: E402
import plugin_reference  # noqa: E402

OWN = generated.own_components()


def page(name: str) -> str:
    """A page as Sphinx reads it."""
    return generated.expand((DOCS / name).read_text(encoding="utf-8"))


def missing_texts(config: type[Config], text: str) -> list[str]:
    """Options whose key or meaning the text lacks."""
    return [row.key for row in options_of(config) if f"`{row.key}`" not in text or markup.plain(row.help) not in text]


@pytest.mark.parametrize("kind", KINDS)
def test_kind_has_its_page(kind: str):
    text = page(f"reference/components/{kind}.md")
    assert text.startswith(f"# {kind}\n")
    assert f"`{KINDS[kind].interface.replace(':', '.')}`" in text
    assert kind in (DOCS / "reference/components/index.md").read_text().split()
    assert f"[{kind}](components/{kind}.md)" in page("reference/kinds.md")
    module, _, _ = KINDS[kind].interface.partition(":")
    assert f"automodule:: {module}\n" in (DOCS / "reference/interfaces.md").read_text()


@pytest.mark.parametrize(("kind", "name"), OWN)
def test_component_and_its_options_are_described(kind: str, name: str):
    text = page(f"reference/components/{kind}.md")
    spec, config = manager().get(kind, name), manager().config_class(kind, name)
    assert f"\n## {name}\n" in text
    assert spec.summary
    assert markup.plain(spec.summary) in text
    assert config.__doc__, "a sentence on what the options are about"
    assert not [row.key for row in options_of(config) if not row.help]
    assert not missing_texts(config, text)


@pytest.mark.parametrize("word", CAPABILITIES)
def test_capability_is_listed(word: str):
    assert f"`{word}`\n: {markup.plain(CAPABILITIES[word])}" in page("reference/kinds.md")


def test_components_use_listed_capabilities_only():
    for kind, name in OWN:
        config = manager().config_class(kind, name)
        if any(row.required for row in options_of(config)):
            continue
        assert config().provides() <= set(CAPABILITIES), f"{kind}.{name}"
        for need in config().needs():
            part, _, ability = need.partition(".")
            named = {getattr(config(), field.name) for field in attrs.fields(config) if field.metadata.get("part")}
            assert part in {*KINDS, *named} or (part == "data" and ability), f"{kind}.{name}"
            assert not ability or ability in CAPABILITIES, f"{kind}.{name}"


def recipe_tables() -> list[type[Config]]:
    """Every table of options that the recipe's own module declares."""
    found = [value for value in vars(schema).values() if isinstance(value, type) and attrs.has(value)]
    return [cls for cls in dict.fromkeys(found) if issubclass(cls, Config) and cls.__module__ == schema.__name__]


@pytest.mark.parametrize("cls", recipe_tables())
def test_recipe_table_is_described(cls: type[Config]):
    assert cls in {config for _, _, config in generated.recipe_tables()}
    assert not missing_texts(cls, page("reference/recipe.md"))


@pytest.mark.parametrize("section", schema.SECTIONS, ids=lambda section: section.name)
def test_recipe_section_is_described(section: Section):
    assert section.help
    assert re.search(
        rf"^## `\[{section.name}(\.NAME)?\]`\n\n{re.escape(section.help[0].upper() + section.help[1:])}", page("reference/recipe.md"), re.M
    )


def test_figures_of_every_metric_are_described():
    text = page("reference/results.md")
    for kind, name in OWN:
        if kind != "metric":
            continue
        of = manager().config_class(kind, name)
        config = of(**{field.name: "x" for field in attrs.fields(of) if field.default is attrs.NOTHING})
        assert isinstance(config, MetricConfig)
        for figure in config.figures():
            assert f"`{figure.name}`\n: " in text, f"{figure.name} of {name}"
            assert figure.meaning, f"{figure.name} of {name} has no meaning"


def test_splits_of_every_dataset_are_described():
    text = page("reference/results.md")
    for kind, name in OWN:
        config = generated._default(kind, name) if kind == "dataset" else None
        for split in config.splits() if isinstance(config, DatasetConfig) else ():
            assert f"| `{split}` | " in text, f"{split} of {name}"


def undocumented(hook: plugin_reference.Hook) -> list[str]:
    """What is not said of a hook."""
    told = (hookspecs.__doc__ or "").partition("Args:")[2]
    return [
        *([] if hook.summary.endswith(".") else ["a first sentence"]),
        *(argument for argument in hook.arguments if f"    {argument}: " not in told),
        *([] if all(hook.example) else ["an example"]),
    ]


@pytest.mark.parametrize("hook", plugin_reference.all_hooks(), ids=lambda hook: hook.name)
def test_every_hook_is_documented(hook: plugin_reference.Hook):
    text = page("reference/hooks.md")
    assert f"\n### `{hook.name}`\n" in text
    assert f".. autofunction:: ibllm_core.host.hookspecs.{hook.name}\n" in text
    row = next(line for line in text.splitlines() if line.startswith(f"| [`{hook.name}`]"))
    assert markup.plain(hook.summary) in row
    assert all(f"`{argument}`" in row for argument in hook.arguments)
    assert undocumented(hook) == []
    assert f"\n```python\n{hook.example[1]}\n```\n" in text


def test_a_hook_that_is_not_documented_is_noticed(monkeypatch: pytest.MonkeyPatch):
    @hookspecs.hookspec
    def ibllm_new(recipe: object, weather: object) -> None:
        """Something happened"""

    monkeypatch.setattr(hookspecs, "ibllm_new", ibllm_new, raising=False)
    assert undocumented(plugin_reference.all_hooks()[-1]) == ["a first sentence", "weather", "an example"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_interface_stands_with_its_axes_and_its_suite(kind: str):
    row = next(line for line in page("reference/interfaces.md").splitlines() if line.startswith(f"| [`{kind}`]"))
    assert f"<{KINDS[kind].interface.replace(':', '.')}>" in row
    assert markup.plain(KINDS[kind].axes or "none") in row
    assert SUITES[kind].__name__ in row


@pytest.mark.parametrize("group", [entry_points.PLUGINS, entry_points.COMMANDS, entry_points.FOLDERS])
def test_every_group_of_entry_points_is_described(group: str):
    assert f"\n| `{group}` |" in (DOCS / "reference/packages.md").read_text()


def test_every_folder_of_a_package_is_described():
    text = (DOCS / "reference/packages.md").read_text()
    assert all(f"`{name}`" in text and f"`{ending}`" in text for name, (_, ending) in packaged.HOLDS.items())


def walk(command: click.Command | None, path: str) -> list[tuple[str, click.Command]]:
    """A command and those below it, with what one types."""
    assert command is not None
    if not isinstance(command, click.Group):
        return [(path, command)]
    context = click.Context(command)
    below = [entry for name in command.list_commands(context) for entry in walk(command.get_command(context, name), f"{path} {name}")]
    return [(path, command), *below]


def test_every_command_is_documented():
    text = page("reference/cli.md")
    for name in own_commands():
        for path, command in walk(cli.get_command(click.Context(cli), name), f"ibllm {name}"):
            assert f"\n## {path}\n" in text
            assert command.help, path
            for option in (p for p in command.params if isinstance(p, click.Option)):
                assert option.help, f"{path} {option.name}"
                assert f": {markup.plain(option.help)}" in text
    variables = re.findall(
        r"IBLLM_[A-Z_]*[A-Z]", "".join(p.read_text(encoding="utf-8") for p in (DOCS.parent / "ibllm_core").rglob("*.py"))
    )
    assert {name for name in variables if f"`{name}`" not in text} == set()


def test_what_a_run_directory_holds_is_described():
    text = (DOCS / "reference/run-directory.md").read_text()
    assert RunDirectory.__doc__
    for name in re.findall(r"``([\w.]+/?)``", RunDirectory.__doc__):
        assert f"| `{name}` |" in text, name


@pytest.mark.parametrize("path", generated.pages(), ids=lambda path: path.relative_to(DOCS).as_posix())
def test_what_pages_have_from_the_code_is_current(path: Path) -> None:
    """So that they can be read in the repository."""
    text = path.read_text(encoding="utf-8")
    assert generated.expand(text) == text, "write it anew: python docs/_ext/generated.py --write"


def test_pages_ask_for_what_there_is() -> None:
    """Every mark is one that is understood; most generators have a page."""
    texts = [path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md") if "_build" not in path.parts]
    marks = [mark for text in texts for mark in re.findall(r"(?:<!--|^%) *generated:? *(\w+)", text, re.MULTILINE)]
    assert len(marks) == sum(len(generated._SECTION.findall(text)) for text in texts)
    assert set(marks) == set(generated.GENERATORS)


def test_links_of_the_readme_lead_somewhere():
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (DOCS.parent / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (DOCS.parent / target).exists(), f"{name} → {target}"


@pytest.mark.parametrize("path", pictures.pages(), ids=lambda path: path.name)
def test_what_pages_show_is_made_by_the_commands_beside_it(path: Path) -> None:
    assert pictures.unmade(path) == [], "make it: python docs/_ext/pictures.py --write runs/joint"


def test_a_picture_that_no_command_makes_is_noticed(tmp_path: Path) -> None:
    block = "```console\n$ ibllm run recipes/joint.toml\n$ ibllm generate runs/joint x -o {}.png\n```\n"
    page = tmp_path / "page.md"
    page.write_text("![x](pictures/drawn.png)\n" + block.format("drawn"), encoding="utf-8")
    assert pictures.unmade(page) == [], "a page may begin with its picture"
    page.write_text(block.format("other") + "![x](pictures/drawn.png)\n", encoding="utf-8")
    assert pictures.unmade(page) == ["drawn.png"]


def test_the_readmes_figures_are_the_measured_ones() -> None:
    text = measured.README.read_text(encoding="utf-8")
    assert measured.readme(text) == text
    assert "scene_exact" in text


@pytest.mark.parametrize("suite", [Suite, PartSuite, *SUITES.values()], ids=lambda suite: suite.__name__)
def test_every_public_name_of_a_suite_is_documented(suite: type[Suite]) -> None:
    """Authors override them, so the page says what each is for."""
    text = page("reference/conformance.md")
    for name in (name for name in vars(suite) if not name.startswith(("_", "test_")) and name not in ("kind", "device")):
        said = [f"- {what} `{name}`" in text for what in ("attribute", "method")]
        assert any(said), f"{suite.__name__}.{name} is not documented"


@pytest.mark.parametrize("config", [StudyTable, Search, Budget, Range], ids=lambda config: config.__name__)
def test_every_key_of_a_study_is_documented(config: type[Config]) -> None:
    text = page("reference/study.md")
    assert missing_texts(config, text) == []
    assert all(f"`[{name}]`" in text for name in FREE)
