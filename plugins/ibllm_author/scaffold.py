"""``ibllm plugin new``: a complete distribution with one working component, rendered from ``templates/plugin``.

Templates use ``<< value >>`` and ``<% statement %>``, which neither Python, TOML nor a CI file has a use for.
"""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ibllm_core.errors import UserError
from ibllm_core.host.manager import manager
from ibllm_core.host.spec import API, KINDS

if TYPE_CHECKING:
    from jinja2 import Environment

#: A distribution's name as the packaging standard has it (PEP 508).
_NAME = re.compile(r"[A-Z0-9]|[A-Z0-9][A-Z0-9._-]*[A-Z0-9]", re.IGNORECASE)
#: Characters that it may have here: with more, generated lines get longer than a formatter leaves them.
_LONGEST = 60
#: Template → where it goes, in terms of the values below; those of the kind are in ``kinds/KIND``.
_FILES: Mapping[str, str] = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "LICENSE": "LICENSE",
    "gitignore": ".gitignore",
    "tests.yml": ".github/workflows/tests.yml",
    "plugin.py": "src/{package}/plugin.py",
    "kinds/{kind}/config.py": "src/{package}/config.py",
    "kinds/{kind}/{kind}.py": "src/{package}/{kind}.py",
    "recipe.toml": "src/{package}/recipes/small.toml",
    "test_contract.py": "tests/test_contract.py",
    "test_use.py": "tests/test_use.py",
}


@attrs.frozen
class Example:
    """What a kind's example is, and where a recipe names it.

    Attributes:
        summary: as in ``ibllm plugins``.
        options: other options than the defaults, for a second run of the conformance suite; a Python dict.
        table: the recipe's table; ``{name}`` is the component's.
    """

    summary: str
    options: str
    table: str


EXAMPLES: Mapping[str, Example] = {
    "text_encoder": Example("gated recurrent units over the tokens, from left to right", '{"layers": 2}', "model.text_encoder"),
    "image_decoder": Example("a small map, doubled and convolved up to the image", '{"channels": [8, 8]}', "model.image_decoder"),
    "image_encoder": Example("strided convolutions, one latent vector a place", '{"channels": [8, 16]}', "model.image_encoder"),
    "text_decoder": Example("gated recurrent units that start from the image's pooled latent", '{"width": 12}', "model.text_decoder"),
    "discriminator": Example("strided convolutions, text by an inner product", '{"channels": [8, 16]}', "model.discriminator"),
    "image_tokenizer": Example("patches as a few yes-or-no numbers each", '{"bits": 4, "channels": 8}', "model.image_tokenizer"),
    "backbone": Example("layers in which each place sees the mean of all", '{"layers": 2}', "model.shared.{name}"),
    "loss": Example("Charbonnier distance of the drawn image from the real one", '{"epsilon": 0.1}', "losses.{name}"),
    "dataset": Example("coloured stripes with captions that count them", '{"size": 48, "most": 2}', "data"),
    "tokenizer": Example("one token a character", '{"size": 48, "max_length": 32}', "tokenizers.text"),
    "metric": Example("captions read off images that are exactly the true ones", '{"ignore_case": True}', "metrics.{name}"),
    "optimizer": Example("steps of one size along the gradient's sign (Lion)", '{"weight_decay": 0.1}', "optimizer"),
    "schedule": Example("up in a straight line, then down as one over the square root of the step", '{"warmup": 5}', "schedule"),
    "procedure": Example("several steps of the critic for each of the model", '{"critic_steps": 2}', "procedure"),
    "perturbation": Example("a grey square over each image (cutout)", '{"side": 0.5}', "stages.image.perturb"),
    "tracker": Example("figures as a table of text in the run directory", '{"file": "figures.csv"}', "trackers.{name}"),
}


@attrs.frozen
class Names:
    """What a distribution's name becomes: ``ibllm-two-stripes`` → package ``ibllm_two_stripes``, component ``two_stripes``, class ``TwoStripes…``."""

    name: str
    package: str
    component: str

    def cls(self, kind: str) -> str:
        """The component's class: its name and its kind, which is said once."""
        name, of = (text.title().replace("_", "") for text in (self.component, kind))
        return name if name.endswith(of) and name != of else name + of


def names(name: str) -> Names:
    """Raises `UserError` where `name` is no distribution's name, or gives a package that Python could not import or would hide another."""
    if not _NAME.fullmatch(name):
        raise UserError(f"NAME = {name!r}: expected letters, digits, '-', '_' and '.', a letter or a digit at either end")
    if len(name) > _LONGEST:
        raise UserError(f"NAME = {name!r}: expected at most {_LONGEST} characters, it has {len(name)}")
    package = re.sub(r"[-_.]+", "_", name).lower()
    component = package.removeprefix("ibllm_")
    if not component.isidentifier() or keyword.iskeyword(package) or keyword.iskeyword(component):
        raise UserError(
            f"NAME = {name!r}: expected a name whose package, {package}, Python can import: it begins with a letter and is no keyword"
        )
    if package in sys.stdlib_module_names:
        raise UserError(f"NAME = {name!r}: expected another name; its package {package} would hide Python's own module {package}")
    found = importlib.util.find_spec(package)
    if found is not None and found.origin is not None:
        raise UserError(f"NAME = {name!r}: expected another name; a package {package} is installed here already: {found.origin}")
    return Names(name, package, component)


def check_free(kind: str, called: Names) -> None:
    """Raises `UserError` where an installed plugin has the plugin's name, or the component's among its kind: of two, neither could be used."""
    for row in manager().rows():
        if row.plugin == called.component or (row.kind, row.name) == (kind, called.component):
            what = f"{kind}.{row.name}" if (row.kind, row.name) == (kind, called.component) else f"the plugin {row.plugin}"
            raise UserError(f"NAME = {called.name!r}: expected another name; {what} is offered by {row.distribution} {row.version} already")


def component_name(name: str) -> str:
    """A component's name for a package that is there: ``two-stripes`` → ``two_stripes``. Raises `UserError` where it would be none."""
    component = re.sub(r"[-_.]+", "_", name).lower()
    if not component.isidentifier() or keyword.iskeyword(component) or len(name) > _LONGEST:
        raise UserError(f"NAME = {name!r}: expected letters, digits and '_', at most {_LONGEST}; it begins with a letter and is no keyword")
    return component


def values_of(kind: str, called: Names) -> dict[str, object]:
    """What the templates of a kind are filled with."""
    example = EXAMPLES[kind]
    table = example.table.format(name=called.component)
    return {
        **attrs.asdict(called),
        "kind": kind,
        "words": kind.replace("_", " "),
        "cls": called.cls(kind),
        "suite": kind.title().replace("_", "") + "Suite",
        "summary": example.summary,
        "small": example.options,
        "path": table,
        "usage": f'[{table}]\nuse = "{called.component}"',
        "api": API,
        "ibllm_version": metadata.version("ibllm"),
        "year": time.gmtime().tm_year,
    }


def environment() -> Environment:
    """The templates."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("ibllm_author", "templates/plugin"),
        variable_start_string="<<", variable_end_string=">>", block_start_string="<%", block_end_string="%>",
        comment_start_string="<#", comment_end_string="#>", undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip


def render(kind: str, called: Names) -> dict[str, str]:
    """Path → text of every file of the distribution."""
    values, templates = values_of(kind, called), environment()
    places = {"kind": kind, "package": called.package}
    files = {
        target.format(**places): templates.get_template(f"{template.format(**places)}.jinja").render(values)
        for template, target in _FILES.items()
    }
    return {**files, f"src/{called.package}/__init__.py": ""}


def write(files: Mapping[str, str], folder: Path) -> None:
    """Writes all files or none.

    Raises:
        UserError: the folder is there and holds something, or cannot be written.
    """
    folder = Path(os.path.abspath(folder))
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: expected a new folder (another NAME or --dir); nothing was changed")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: expected a new folder (another NAME or --dir); nothing was changed")
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        unfinished.mkdir(parents=True)
        for name, text in files.items():
            path = unfinished / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}; nothing was left behind") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def create(name: str, kind: str, folder: Path | None) -> tuple[Names, Path]:
    """A new distribution; its names, and the folder that it was written to (by default one called `name`, here).

    Raises:
        UserError: a name that cannot be used or is taken, or a folder that is not empty; nothing is written then.
    """
    assert set(EXAMPLES) == set(KINDS), "every kind has an example"
    called = names(name)
    check_free(kind, called)
    target = folder if folder is not None else Path(name)
    write(render(kind, called), target)
    return called, target
