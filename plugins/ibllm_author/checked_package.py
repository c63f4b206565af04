"""What is looked over: the plugins and components of one installed package, and what was said about how to do it. Torch-free."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

import attrs

from ibllm_core.errors import UserError, nearest
from ibllm_core.host.entry_points import plain
from ibllm_core.host.manager import Manager, PluginError, Row
from ibllm_core.host.options import DatasetConfig
from ibllm_core.recipe.locate import key_path
from ibllm_core.recipe.words import structure
from ibllm_inspect.options import options_of
from ibllm_inspect.presets import packaged_presets, require_kind


@attrs.frozen
class Component:
    """A component as it is tried.

    Attributes:
        options: as in a recipe.
        surroundings: attributes of its suite: for a metric, the ``dataset`` (name, options) and the ``split`` that it is measured on.
        hindrance: why it cannot be tried at all; empty where it can.
    """

    kind: str
    name: str
    summary: str
    options: Mapping[str, Any]
    surroundings: Mapping[str, Any] = attrs.field(factory=dict)
    hindrance: str = ""

    @property
    def label(self) -> str:
        return f"{self.kind}.{self.name}"


@attrs.frozen
class Subject:
    """One package: `plugins` are its entry points' names, `faults` what kept a plugin or a component from being loaded, name → why."""

    distribution: str
    version: str
    plugins: tuple[str, ...]
    components: tuple[Component, ...]
    faults: Mapping[str, str]


def find(manager: Manager, package: str) -> list[Row]:
    """The rows of a distribution, or else of the plugin (the entry point) of that name.

    Raises:
        UserError: there is no such package, or it registers no plugin; with the nearest name there is.
    """
    rows, wanted = manager.rows(), plain(package)
    found = [row for row in rows if plain(row.distribution) == wanted] or [row for row in rows if plain(row.plugin) == wanted]
    if found:
        return found
    guess = nearest(package, [name for row in rows for name in (row.distribution, row.plugin)])
    more = f"; did you mean {guess!r}?" if guess else "; `ibllm plugins` lists those that are"
    try:
        there = metadata.distribution(package)
    except (metadata.PackageNotFoundError, ValueError):
        raise UserError(f"no package {package!r} is installed that brings a plugin{more}") from None
    raise UserError(f'{there.name} {there.version} is installed but registers no plugin (entry-point group "ibllm"){more}')


def subject(manager: Manager, package: str, sets: Iterable[str], data: str) -> Subject:
    """The package and how its components are to be tried.

    Args:
        sets: options of components, ``KIND.NAME.KEY=VALUE``.
        data: the dataset that metrics are measured on; empty for the package's own where it brings one, else for a stand-in.

    Raises:
        UserError: no such package; an option that cannot be read or is no component's of the package; no such dataset; presets that cannot be read.
    """
    rows, given = find(manager, package), read_sets(sets)
    own = [row.name for row in rows if row.kind == "dataset" and row.status == "ok"]
    measured_on = data or (own[0] if len(own) == 1 else "")
    if data and data not in manager.names("dataset"):
        raise UserError(f"--data {data}: expected one of {', '.join(manager.names('dataset'))}")
    known = [f"{row.kind}.{row.name}" for row in rows if row.kind] + ([f"dataset.{data}"] if data else [])
    for label in given:
        if label not in known:
            guess = nearest(label, known)
            raise UserError(f"--set {label}: expected a component of {package}" + (f"; did you mean {guess}?" if guess else ""))
    on = _measured_on(manager, measured_on, given.get(f"dataset.{measured_on}", {})) if measured_on else {}
    faults = {row.label: "; ".join(filter(None, (row.error, row.remedy))) for row in rows if row.status != "ok"}
    presets = packaged_presets(rows[0].distribution)
    components = [_component(manager, row, given, presets, on, chosen=bool(data)) for row in rows if row.kind and row.status == "ok"]
    plugins = tuple(dict.fromkeys(row.plugin for row in rows))
    return Subject(rows[0].distribution, rows[0].version, plugins, tuple(components), faults)


def _measured_on(manager: Manager, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a metric's suite is told; a dataset that its own checks will find fault with is left out."""
    try:
        config = structure(manager.config_class("dataset", name), options)
    except PluginError:
        return {}
    if not isinstance(config, DatasetConfig):
        return {}
    return {"dataset": (name, dict(options)), "split": config.reported_splits()[0]}


def _component(
    manager: Manager,
    row: Row,
    given: Mapping[str, Mapping[str, Any]],
    presets: Mapping[str, Mapping[str, Mapping[str, Any]]],
    on: Mapping[str, Any],
    chosen: bool,
) -> Component:
    """A component with the options of its package's presets and those given; measured as the presets say unless data were `chosen`."""
    preset = presets.get(row.kind, {}).get(row.name, {})
    options = {**preset.get("options", {}), **given.get(f"{row.kind}.{row.name}", {})}
    own = {key: preset[key] for key in ("dataset", "split") if key in preset and not chosen}
    made = Component(row.kind, row.name, row.summary, options, {**on, **own} if row.kind == "metric" else {})
    try:
        needed = [option.key for option in options_of(manager.config_class(row.kind, row.name)) if option.required]
    except PluginError as error:
        return attrs.evolve(made, hindrance=str(error))
    missing = [key for key in needed if key not in options]
    if missing:
        sets = " ".join(f"--set {made.label}.{key}=…" for key in missing)
        return attrs.evolve(made, hindrance=f"it has options without a default; give them: {sets}")
    return made


def read_sets(sets: Iterable[str]) -> dict[str, dict[str, Any]]:
    """``KIND.NAME.KEY=VALUE`` → KIND.NAME → options, values as TOML, or as strings where they are none.

    Raises:
        UserError: what cannot be read, or a kind that there is not.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in sets:
        key, sign, value = text.partition("=")
        path: Sequence[str] = key_path(key) or ()
        if not sign or len(path) != 3:
            raise UserError(f"--set {text}: expected KIND.NAME.KEY=VALUE, e.g. text_encoder.pile.keep=0.5")
        require_kind(path[0], f"--set {text}: ")
        try:
            parsed: Any = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value.strip()
        found.setdefault(f"{path[0]}.{path[1]}", {})[path[2]] = parsed
    return found
