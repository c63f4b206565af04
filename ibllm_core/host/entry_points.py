"""Entry points, and what is known of one without importing it: whose it is, in which file, whether it is blocked. Torch-free."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from importlib.machinery import PathFinder
from typing import Any

import attrs

#: The groups of component plugins, of commands (``ibllm NAME``), of listeners to a run, and of folders of files.
PLUGINS, COMMANDS, LISTENERS, FOLDERS = "ibllm", "ibllm.commands", "ibllm.listeners", "ibllm.folders"
#: Environment variable: what is not loaded, names separated by commas; of a component plugin the entry point's, of a tool its package's too.
BLOCK = "IBLLM_BLOCK"
#: The core's own distribution, tools and parts included.
OURS = "ibllm"
#: Name and version of a distribution that does not say them.
UNKNOWN = "unknown"


@attrs.frozen
class Origin:
    """Where a plugin comes from: its entry point's name, value and group, and the distribution that registered it."""

    plugin: str
    value: str
    distribution: str
    version: str
    group: str = PLUGINS

    def __str__(self) -> str:
        return f"{self.distribution}=={self.version}"


def registered(group: str) -> Iterable[metadata.EntryPoint]:
    """The entry points of a group; distributions are looked through again only where a folder of the path has changed."""
    found: Iterable[metadata.EntryPoint] = _scanned(tuple((p, os.stat(p).st_mtime_ns) for p in sys.path if os.path.isdir(p))).select(
        group=group
    )
    return found


@functools.lru_cache(maxsize=1)
def _scanned(_: object) -> Any:
    return metadata.entry_points()


def origin_of(point: metadata.EntryPoint) -> Origin:
    """Whose an entry point is."""
    return Origin(point.name, point.value, *identity(point.dist), point.group)


@functools.cache
def identity(distribution: metadata.Distribution | None) -> tuple[str, str]:
    """(name, version); `UNKNOWN` where a half-removed installation has lost the file that says them."""
    try:
        return (distribution.name or UNKNOWN, distribution.version or UNKNOWN) if distribution else (UNKNOWN, UNKNOWN)
    except metadata.PackageNotFoundError:
        return UNKNOWN, UNKNOWN


def plain(name: str) -> str:
    """A distribution's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def blocked_names() -> frozenset[str]:
    """What `IBLLM_BLOCK` names."""
    return frozenset(name for part in os.environ.get(BLOCK, "").split(",") if (name := part.strip()))


def tool_names(point: metadata.EntryPoint) -> frozenset[str]:
    """The names by which a command or a listener is blocked: its own, and its import package's, with and without ``ibllm_``."""
    package = point.value.partition(":")[0].partition(".")[0].strip()
    return frozenset({point.name, package, package.removeprefix("ibllm_")})


def tools_by_name() -> frozenset[str]:
    """All names by which an installed command or listener is blocked."""
    points = [point for group in (COMMANDS, LISTENERS) for point in metadata.entry_points(group=group)]
    return frozenset().union(*map(tool_names, points))


def block_of(point: metadata.EntryPoint) -> str:
    """The name in `IBLLM_BLOCK` that blocks a command or a listener; empty where none does."""
    return min(tool_names(point) & blocked_names(), default="")


def file_of(value: str) -> str:
    """The file that an entry point's ``module[:object]`` is in, found without importing it; empty where there is none."""
    top, *rest = value.partition(":")[0].strip().split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return ""
    for part in rest:
        spec = spec and PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations or ())
    return (spec and spec.origin) or ""
