"""What a run depends on that no version says: the source of packages that are no installed wheels, and the weights of other runs. Torch-free."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import re
import sys
import warnings
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import Notice, UserError
from ..host.manager import manager
from ..recipe.schema import Init, Recipe, Stage

#: Folders whose packages are installed: their version says what they are.
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_IMPORT = re.compile(r"^[ \t]*(?:import[ \t]+(\w+)|from[ \t]+(\w+)[\w.]*[ \t]+import\b)", re.MULTILINE)


def sources(recipe: Recipe) -> dict[str, str]:
    """What run.json keeps: import package, or run that weights are taken from → hash."""
    return code(recipe) | starts(recipe, recipe.running())


def code(recipe: Recipe, but: Container[str] = ()) -> dict[str, str]:
    """Import package → hash of its ``*.py`` files, tests and documentation left out.

    Of the packages that the core, the recipe's components (but for trackers, and for those at the key paths `but`) and its hooks are in or import, those
    that are edited where they lie: editable installations, folders on the path.
    """
    specs = [c.spec for path, c in recipe.components().items() if c.kind != "tracker" and path not in but]
    left = [__name__, *(path for spec in specs for path in (spec.factory, spec.config))]
    left += [manager(recipe.plugins.block).plugin(name).origin.value for name in recipe.plugins.hooks]
    found: dict[str, str] = {}
    while left:
        name = re.split("[.:]", left.pop())[0]
        if name not in found:
            found[name], imported = _package(name)
            left += imported
    return {name: found[name] for name in sorted(found) if found[name]}


def starts(recipe: Recipe, stages: Iterable[Stage]) -> dict[str, str]:
    """Run → hash of the weights that the recipe, its parts and the stages take from it."""
    inits = [recipe.init, *(part.init for part in recipe.model.parts.values()), *(stage.init for stage in stages)]
    return {init.run: _weights(init) for init in inits if init}


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The packages and runs that both name and know otherwise."""
    return [name for name in before if name in now and before[name] != now[name]]


def goes_on(info: Mapping[str, Any], recipe: Recipe, what: str, accept: bool) -> dict[str, Any]:
    """What is to be written into the run.json of a run that begins or goes on, given what it says.

    Raises:
        UserError: the source, or a run that weights are taken from, is another one, and this was not accepted.
    """
    now, before = sources(recipe), info.get("sources", {})
    others = changed(before, now)
    if others and not accept:
        ways = "put it back, or go on with what is here now (--accept-code)"
        raise UserError(f"{what} was started with another state of {', '.join(others)}: {ways}")
    if "provenance" in info and "sources" not in info and now:
        warnings.warn(Notice(f"{what} does not say with which state of {', '.join(now)} it was started"), stacklevel=2)
    accepted = [*info.get("accepted_code", []), {name: before[name] for name in others}]
    return {"sources": now, "accepted_code": accepted} if others else {"sources": now}


@functools.cache
def _package(name: str) -> tuple[str, tuple[str, ...]]:
    """A top-level package's hash and what it imports; nothing of one that is installed. Read once a process, which imports it once too."""
    if name in sys.stdlib_module_names:
        return "", ()
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py") or _INSTALLED.intersection(Path(spec.origin).parts):
        return "", ()
    root = Path(spec.origin).parent
    files = sorted(root.rglob("*.py")) if spec.submodule_search_locations else [Path(spec.origin)]
    digest, imported = hashlib.sha256(), dict[str, None]()
    for file in files:
        place = file.relative_to(root)
        if not {"tests", "docs"}.intersection(place.parts):
            text = file.read_bytes()
            digest.update(f"{place.as_posix()}\0{len(text)}\0".encode() + text)
            imported |= dict.fromkeys(one or other for one, other in _IMPORT.findall(text.decode(errors="replace")))
    return digest.hexdigest()[:16], tuple(imported)


def _weights(init: Init) -> str:
    """The hash of what is taken from a run: of its model, or of the record of its newest checkpoint, which has hashes itself."""
    folder = Path(init.run)
    files = sorted(folder.glob("checkpoints/step-*/hashes.json"))[-1:] if init.weights == "raw" else [folder / "model" / "weights.safetensors"]
    try:
        with files[0].open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except (OSError, IndexError):
        return "missing"
