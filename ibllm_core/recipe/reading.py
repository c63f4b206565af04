"""Recipe file → `Recipe`, or all its mistakes. Torch-free."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable

import attrs

from ..errors import nearest
from ..host import manager as plugins
from ..host.output import stdout_to_stderr
from .checks import check_all
from .document import Document
from .draft import Draft
from .files import read
from .mistakes import Mistakes
from .resolve import to_toml
from .schema import Place, Plugins, Recipe
from .sections import read_entry, read_sections
from .words import listing


def load(
    path: str | os.PathLike[str],
    sets: Iterable[str] = (),
    seed: int | None = None,
    manager: plugins.Manager | None = None,
    over: Iterable[Document] = (),
) -> Recipe:
    """Reads a recipe with all that it extends.

    Args:
        path: a TOML file, or ``package:recipe`` for one that an installed package brings.
        sets: overrides, ``KEY=VALUE``.
        seed: instead of the recipe's, for every purpose.
        over: documents laid over the file, one after the other, below the overrides.
        manager: where components are looked up; the process's own without the plugins that the recipe blocks.

    Raises:
        RecipeErrors: with every mistake that can be found before anything is built.
    """
    mistakes = Mistakes(os.fspath(path))
    overrides = (*sets, *(() if seed is None else (f"seed={seed}",)))
    document = read(path, overrides, mistakes, over)
    document.data.setdefault("name", pathlib.Path(document.file).stem)
    draft = Draft(document=document, manager=manager or plugins.manager(), mistakes=mistakes)
    named = read_entry(draft, Plugins, ("plugins",)) or Plugins()
    if manager is None and named.block:
        draft.manager = plugins.manager(named.block)
        _check_blocks(draft, named)
    _check_hooks(draft, named)
    draft.recipe = attrs.evolve(draft.recipe, plugins=named)
    with stdout_to_stderr():  # configs are asked again and again, and what a plugin prints is no output of a command
        read_sections(draft)
        check_all(draft)
    mistakes.throw()
    return attrs.evolve(draft.recipe, source=to_toml(document.data), place=Place(file=document.file, line=1, key=""))


def _check_blocks(draft: Draft, named: Plugins) -> None:
    known = {row.plugin for row in draft.manager.rows()}
    for name in draft.manager.unmatched_blocks():
        if name in named.block:
            expected = "names as `ibllm plugins` shows them"
            draft.say(("plugins", "block"), f'no plugin is called "{name}"', expected=expected, nearest=nearest(name, known))


def _check_hooks(draft: Draft, named: Plugins) -> None:
    for name in named.hooks:
        known = draft.manager.hooked()
        try:
            if draft.manager.plugin(name).hooks:
                continue
            what, near = f"the plugin {name!r} implements no lifecycle hook", ""
        except plugins.PluginError as error:
            what, near = str(error), nearest(name, known)
        draft.say(("plugins", "hooks"), what, expected=listing(known) or "a plugin with lifecycle hooks", nearest=near)
