"""Recipe file → `Recipe`, or all its mistakes. Torch-free."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable

from ..errors import nearest
from ..host import manager as plugins
from ..host.output import stdout_to_stderr
from .checks import check_all
from .document import Document
from .draft import Draft
from .files import read
from .mistakes import Mistakes, listing
from .resolve import to_toml
from .schema import Place, Plugins, Recipe
from .sections import read_sections


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
    blocked = draft.structure(Plugins, draft.table("plugins"), ("plugins",))
    if blocked is not None:
        draft.plugins = blocked
        if manager is None and blocked.block:
            draft.manager = plugins.manager(blocked.block)
            _check_blocks(draft)
        _check_hooks(draft)
    with stdout_to_stderr():  # configs are asked again and again, and what a plugin prints is no output of a command
        read_sections(draft)
        check_all(draft)
    mistakes.throw()
    return _recipe(draft, document)


def _check_blocks(draft: Draft) -> None:
    known = {row.plugin for row in draft.manager.rows()}
    for name in draft.manager.unmatched_blocks():
        if name in draft.plugins.block:
            draft.say(
                ("plugins", "block"),
                f'no plugin is called "{name}"',
                expected="names as `ibllm plugins` shows them",
                nearest=nearest(name, known),
            )


def _check_hooks(draft: Draft) -> None:
    for name in draft.plugins.hooks:
        try:
            hooks = draft.manager.plugin(name).hooks
        except plugins.PluginError as error:
            known = draft.manager.hooked()
            draft.say(
                ("plugins", "hooks"), str(error), expected=listing(known) or "a plugin with lifecycle hooks", nearest=nearest(name, known)
            )
            continue
        if not hooks:
            draft.say(("plugins", "hooks"), f"the plugin {name!r} implements no lifecycle hook", expected=listing(draft.manager.hooked()))


def _recipe(draft: Draft, document: Document) -> Recipe:
    assert draft.data is not None and draft.order is not None and draft.width is not None
    return Recipe(
        name=draft.name,
        seed=draft.seed,
        order=draft.order,
        data=draft.data,
        unpaired=draft.unpaired,
        tokenizers=draft.tokenizers,
        width=draft.width,
        parts=draft.parts,
        losses=draft.losses,
        metrics=draft.metrics,
        trackers=draft.trackers,
        players=draft.players,
        stages=draft.stages,
        training=draft.training,
        compute=draft.compute,
        evaluation=draft.evaluation,
        plugins=draft.plugins,
        init=draft.init,
        source=to_toml(document.data),
        place=Place(file=document.file, line=1, key=""),
    )
