"""``ibllm plugin new --into``: one more component for a package that is there. New files, and one insertion into its plugin module; nothing else."""

from __future__ import annotations

import ast
import difflib
import os
import re
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path

import attrs

from ibllm_core.errors import UserError
from ibllm_core.host.manager import manager
from ibllm_core.host.spec import API

from .scaffold import EXAMPLES, Names, component_name, environment, values_of

#: The function that a plugin module gives its components by.
_HOOK = "ibllm_components"


@attrs.frozen
class Package:
    """A package as far as it matters here: `folder` has its pyproject.toml, `plugin` is the file of its plugin module, in the import package `name`."""

    folder: Path
    distribution: str
    name: str
    plugin: Path


@attrs.frozen
class Addition:
    """What is written: `files`, new ones, and `edited`, the plugin module's new text; `diff` shows how that differs."""

    component: str
    files: Mapping[Path, str]
    edited: str
    diff: str


def find(into: str) -> Package:
    """The package in a folder, or the installed one of that name, if it is edited where it lies.

    Raises:
        UserError: there is none, or it does not register exactly one plugin in a module that can be found.
    """
    folder = Path(into) if Path(into).is_dir() else _folder_of(into)
    file = folder / "pyproject.toml"
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        points = dict(project.get("entry-points", {}).get("ibllm", {}))
        distribution = str(project["name"])
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"--into {into}: {file} cannot be read as a package's: {error!r}") from error
    if len(points) != 1:
        found = ", ".join(points) or "none"
        raise UserError(f"--into {into}: expected one plugin under [project.entry-points.ibllm] of {file}; there is {found}")
    module = str(next(iter(points.values()))).partition(":")[0].strip()
    places = [folder.joinpath(root, *module.split(".")).with_suffix(".py") for root in ("src", ".")]
    plugin = next((place for place in places if place.is_file()), None)
    if plugin is None or "." not in module:
        raise UserError(f"--into {into}: expected the plugin module {module} at {places[0]}, inside a package")
    return Package(folder, distribution, module.rpartition(".")[0], plugin)


def _folder_of(name: str) -> Path:
    """Where an installed distribution that is edited where it lies has its pyproject.toml."""
    rows = [row for row in manager().rows() if name in (row.distribution, row.plugin) and row.file]
    for parent in Path(rows[0].file).parents if rows else ():
        if (parent / "pyproject.toml").is_file():
            return parent
    what = (
        f"{rows[0].distribution} is not installed from a folder (pip install -e)" if rows else "there is no such folder, nor such a package"
    )
    raise UserError(f"--into {name}: {what}; expected the folder of a package")


def plan(name: str, kind: str, package: Package) -> Addition:
    """What there is to write for the component `name`; nothing is written yet.

    Raises:
        UserError: a name that cannot be used or is taken, a file that is there already, or a plugin module that cannot be edited safely.
    """
    component = component_name(name)
    for row in manager().rows():
        if (row.kind, row.name) == (kind, component) and row.distribution != package.distribution:
            raise UserError(
                f"NAME = {name!r}: expected another name; {kind}.{component} is offered by {row.distribution} {row.version} already"
            )
    folder = package.plugin.parent
    stem = kind if not (folder / f"{kind}.py").exists() else f"{component}_{kind}"
    called = Names(package.distribution, package.name, component)
    values = values_of(kind, called)
    templates = environment()
    part, config = (templates.get_template(f"kinds/{kind}/{file}.py.jinja").render(values) for file in (kind, "config"))
    files = {
        folder / f"{stem}.py": part.replace("from .config import", f"from .{stem}_config import"),
        folder / f"{stem}_config.py": config,
        package.folder / "tests" / f"test_{stem}.py": templates.get_template("test_contract.py.jinja").render(values),
    }
    for path in files:
        if path.exists():
            raise UserError(f"{path} is there already and is left as it is: expected another NAME; nothing was changed")
    spec = {
        "kind": kind,
        "name": component,
        "factory": f"{package.name}.{stem}:{called.cls(kind)}",
        "config": f"{package.name}.{stem}_config:{called.cls(kind)}Config",
        "summary": EXAMPLES[kind].summary,
    }
    before = package.plugin.read_text(encoding="utf-8")
    after = inserted(before, spec, str(package.plugin))
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), str(package.plugin), str(package.plugin), lineterm="")
    return Addition(component, files, after, "\n".join(lines))


def inserted(source: str, spec: Mapping[str, str], file: str) -> str:
    """The plugin module's text with one more `ComponentSpec`; all else is as it was, to the character.

    Raises:
        UserError: its ``ibllm_components`` neither yields specs nor ends by returning a list of them, or has this one; with the lines to be added by hand.
    """
    alone = _spec_text(spec, "ComponentSpec")

    def refuse(why: str) -> UserError:
        return UserError(f"{file}: {why}; nothing was changed. To be added by hand:\n\n{alone}")

    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise refuse(f"line {error.lineno} is not Python") from error
    calls = [
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == "ComponentSpec"
    ]
    hooks = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == _HOOK]
    if len(calls) != 1 or len(hooks) != 1:
        raise refuse(f"it does not import ComponentSpec by name and define one function {_HOOK}")
    for call in (node for node in ast.walk(hooks[0]) if isinstance(node, ast.Call)):
        given = {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)}
        if (given.get("kind"), given.get("name")) == (spec["kind"], spec["name"]):
            raise UserError(
                f"{file}:{call.lineno}: {spec['kind']}.{spec['name']} is there already: expected another NAME; nothing was changed"
            )
    last = hooks[0].body[-1]
    text = _spec_text(spec, calls[0])
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Yield | ast.YieldFrom):
        before, after = _parted(source, last)
        rest, newline, below = after.partition("\n")
        if not re.fullmatch(r"\s*(#.*)?", rest):
            raise refuse(f"line {last.end_lineno} holds more than one statement")
        edited = f"{before}{rest}\n{textwrap.indent(f'yield {text}', ' ' * last.col_offset)}{newline}{below}"
    elif isinstance(last, ast.Return) and isinstance(last.value, ast.List | ast.Tuple) and last.value.elts:
        element = last.value.elts[-1]
        before, after = _parted(source, element)
        rest, newline, below = after.partition("\n")
        alone_there = re.fullmatch(r"\s*,?\s*(#.*)?", rest)
        depth = " " * (element.col_offset if alone_there else last.col_offset)
        if alone_there:
            comma = "" if rest.lstrip().startswith(",") else ","
            edited = f"{before}{comma}{rest}\n{textwrap.indent(text, depth)},{newline}{below}"
        else:
            edited = f"{before}, {textwrap.indent(text, depth).lstrip()}{after}"
    else:
        raise refuse(f"{_HOOK} (line {hooks[0].lineno}) neither ends with a yield nor returns a list that is written out")
    try:
        ast.parse(edited)
    except SyntaxError as error:
        raise refuse("it is written in a way that cannot be edited safely") from error
    return edited


def _spec_text(spec: Mapping[str, str], call: str) -> str:
    words = "".join(f'    {key}="{value}",\n' for key, value in spec.items())
    return f"{call}(\n{words}    api={API},\n)"


def _parted(source: str, node: ast.stmt | ast.expr) -> tuple[str, str]:
    """What stands up to the end of a node, and behind it; `ast` counts columns in bytes of UTF-8."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    lines = re.split("(?<=\n)", source)
    at = sum(map(len, lines[: node.end_lineno - 1])) + len(lines[node.end_lineno - 1].encode()[: node.end_col_offset].decode())
    return source[:at], source[at:]


def write(addition: Addition, package: Package) -> None:
    """Writes all of it or nothing; a file that is there is never overwritten. Raises `UserError` where it cannot be written."""
    made: list[Path] = []
    partial = package.plugin.with_name(f".{package.plugin.name}.{os.getpid()}")
    try:
        for path, text in addition.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="\n") as file:
                made.append(path)
                file.write(text)
        partial.write_bytes(_with_ends_of(package.plugin, addition.edited))
        partial.replace(package.plugin)
    except OSError as error:
        for path in made:
            path.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
        raise UserError(f"{error.filename or package.folder} cannot be written: {error.strerror}; nothing was left behind") from error


def _with_ends_of(file: Path, text: str) -> bytes:
    """The text with the line ends that the file has."""
    return (text.replace("\n", "\r\n") if b"\r\n" in file.read_bytes() else text).encode()
