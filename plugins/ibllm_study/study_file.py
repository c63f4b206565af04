"""Study file → `Study`, or all its mistakes. Torch-free."""

from __future__ import annotations

import itertools
import json
import math
import os
import pathlib
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from ibllm_core.errors import nearest
from ibllm_core.host import packaged
from ibllm_core.recipe.document import OF_FILES, Document, read_file
from ibllm_core.recipe.locate import Mistakes, Path, Place, RecipeErrors, dotted, key_path
from ibllm_core.recipe.words import Flaw, show, structure, written

from .factors import check_rules, read_factorial
from .schema import BASE, FORMAT, Arm, Axis, Range, Study, StudyTable
from .statistics.factorial import Design

#: Tables whose keys are the recipe's.
FREE = ("set", "variants", "axes", "factors")
#: Seeds, and arms, beyond which a study is a slip of the pen.
MOST = 10_000


def read_study(path: str | os.PathLike[str], scale: float | None = None, seeds: int | None = None, threads: int | None = None) -> Study:
    """Reads a study file; its base recipe is not looked at yet.

    Args:
        scale, seeds: instead of the file's.
        threads: of a run, where the file does not say.

    Raises:
        RecipeErrors: with every mistake of the file, and those of its arms' recipes as far as they can be read then.
    """
    file = os.fspath(path)
    mistakes = Mistakes(file)
    document = read_file(file, mistakes)
    file = document.file
    if document.data.keys() & {"extends", "stages", "data", "model"} and not {"base", "primary"} & document.data.keys():
        what = "this is a recipe, no study"
        mistakes.fail(document.place(), what, "a study: base, seeds, primary, and what is changed", hint=f"ibllm run {shlex.quote(file)}")
    instead = {key: value for key, value in (("scale", scale), ("seeds", seeds)) if value is not None}
    own = ({} if threads is None else {"threads": threads}) | {k: value for k, value in document.data.items() if k not in FREE} | instead
    table, design = _own(document, mistakes, own), None
    common = Document(file=file)
    if table is not None:
        common.put(("compute", "threads"), table.threads, document.place("threads"))
    _merge(document, mistakes, ("set",), _table(document, mistakes, "set"), common)
    variants = tuple(_variants(document, mistakes, "variants"))
    factors = tuple(_variants(document, mistakes, "factors"))
    axes = tuple(_axes(document, mistakes, search=table is not None and table.design == "search"))
    if table is not None:
        _check(document, mistakes, table, variants, axes)
        design = read_factorial(document, mistakes, table, factors)
    base = _base(document, mistakes, table.base if table is not None else document.data.get("base"))
    try:
        mistakes.throw()
    except RecipeErrors:
        if base:
            from .plan import look_further

            look_further(_readable(document, own, common, (*variants, *factors), axes, base), mistakes)
        mistakes.throw()
    assert table is not None
    chosen = tuple(range(table.seeds)) if isinstance(table.seeds, int) else table.seeds
    return Study(
        name=table.name or pathlib.Path(file).stem,
        base=base,
        source=pathlib.Path(file).read_text(encoding="utf-8-sig"),
        table=table,
        seeds=chosen,
        common=common,
        variants=variants,
        axes=axes,
        factors=factors,
        factorial=design,
        options=tuple(f"--{key} {value:g}" for key, value in instead.items()),
        document=document,
    )


def _readable(
    document: Document, own: Mapping[str, Any], common: Document, variants: tuple[Arm, ...], axes: tuple[Axis, ...], base: str
) -> Study:
    """What can be read of a study with mistakes, each of its changes for itself."""
    primary = own.get("primary")
    return Study(
        name=pathlib.Path(document.file).stem,
        base=base,
        source="",
        table=StudyTable(format=FORMAT, base=base, seeds=1, primary=primary if isinstance(primary, str) else ""),
        seeds=(0,),
        common=common,
        variants=variants,
        axes=tuple(axis for axis in axes if axis.range is None),
        document=document,
    )


def _base(document: Document, mistakes: Mistakes, said: object) -> str:
    """The base recipe's path, relative to the study's file, or its address in a package; empty where there is none, which is noted."""
    if not isinstance(said, str):
        return ""  # noted where the study's own keys are read
    if packaged.split(said):
        return said
    path = os.path.normpath(os.path.join(os.path.dirname(document.file), said))
    if not os.path.isfile(path):
        near = nearest(pathlib.Path(path).name, [found.name for found in pathlib.Path(path).parent.glob("*.toml")])
        mistakes.add(document.place("base"), f"no such file: {path}", expected="a recipe, relative to this file", nearest=near)
        return ""
    return path


def _own(document: Document, mistakes: Mistakes, table: Mapping[str, Any]) -> StudyTable | None:
    """The study's own keys; None once their mistakes are noted."""
    found = structure(StudyTable, table, FREE)
    if isinstance(found, list):
        for flaw in found:
            _say(document, mistakes, (), flaw)
        return None
    if found.format > FORMAT:
        mistakes.add(document.place("format"), f"format {found.format} is newer than this ibllm can read", expected=f"format = {FORMAT}")
    return found


def arms(study: Study) -> tuple[Arm, ...]:
    """The arms of a design, the base first. In a grid, variants are one more axis."""
    base = Arm(name=BASE, changes={}, layer=Document(file=study.document.file), place=study.place("base"))
    singles = {axis.key: [_arm(study.document, axis.place, {axis.key: value}) for value in axis.values] for axis in study.axes}
    if study.table.design == "one-at-a-time":
        return (base, *study.variants, *itertools.chain(*singles.values()))
    if study.table.design == "search":
        return (base,)
    if study.factorial is not None:
        return (base, *_factorial(study, study.factorial))
    choices: list[list[Arm]] = list(singles.values())
    if study.variants:
        choices.insert(0, [base, *study.variants])
    points = []
    for point in itertools.product(*choices):
        named = [arm for arm in point if arm is not base]
        changes = {key: value for arm in named for key, value in arm.changes.items()}
        points.append(_arm(study.document, named[0].place if named else base.place, changes, ", ".join(arm.name for arm in named)))
    return (base, *(arm for arm in points if arm.changes))


def _factorial(study: Study, design: Design) -> Iterable[Arm]:
    """The cells of a factorial design but the base, each the changes of all factors that are high in it."""
    for cell in design.cells[1:]:
        levels = design.levels(cell)
        high = [factor for factor in study.factors if levels[factor.name]]
        changes = {key: value for factor in high for key, value in factor.changes.items()}
        arm = _arm(study.document, high[0].place, changes, ", ".join(factor.name for factor in high))
        yield attrs.evolve(arm, high=tuple(factor.name for factor in high))


def arm_of(study: Study, changes: Mapping[str, Any], name: str = "") -> Arm:
    """An arm that no file names: a point of a search."""
    return _arm(study.document, study.place("axes"), changes, name)


def _arm(document: Document, place: Place, changes: Mapping[str, Any], name: str = "") -> Arm:
    layer = Document(file=document.file)
    for key, value in changes.items():
        path = key_path(key)
        assert path is not None
        layer.put(path, value, place)
    words = ", ".join(f"{key} = {written(value)}" for key, value in changes.items())
    return Arm(name=name or words, changes=dict(changes), layer=layer, place=place)


def _table(document: Document, mistakes: Mistakes, name: str) -> dict[str, Any]:
    value = document.data.get(name, {})
    if isinstance(value, dict):
        return value
    mistakes.add(document.place(name), f"{show(value)} has the wrong type", expected="a table")
    return {}


def _merge(document: Document, mistakes: Mistakes, path: tuple[str, ...], table: Mapping[str, Any], into: Document) -> bool:
    """Writes a table of ``"dotted.key" = value`` into a document; False where a key is none."""
    right = True
    for key, value in table.items():
        place = document.place(*path, key)
        steps = key_path(key)
        if steps is None or steps[0] in (*OF_FILES, "seed"):
            what = "cannot be changed by a study" if steps else "is no key of a recipe"
            hint = "the study's own `seeds` say which" if steps and steps[0] == "seed" else ""
            mistakes.add(place, f'"{key}" {what}', expected='dotted keys, e.g. "stages.joint.steps" = 40', hint=hint)
            right = False
        else:
            into.put(steps, value, place)
    return right


def _variants(document: Document, mistakes: Mistakes, kind: str) -> Iterable[Arm]:
    """The named changes of ``[variants]`` or of ``[factors]``."""
    for name, changes in _table(document, mistakes, kind).items():
        place = document.place(kind, name)
        if not isinstance(changes, dict) or not changes:
            mistakes.add(place, f"{show(changes)} is no {kind[:-1]}", expected='a table of changes, e.g. { "losses.cycle" = false }')
            continue
        if name == BASE:
            mistakes.add(place, f'"{BASE}" is the name of the base recipe itself', expected="another name")
        layer = Document(file=document.file)
        if _merge(document, mistakes, (kind, name), changes, layer):
            yield Arm(name=name, changes=changes, layer=layer, place=place)


def _axes(document: Document, mistakes: Mistakes, search: bool) -> Iterable[Axis]:
    for key, value in _spelt(_table(document, mistakes, "axes")):
        place = document.place("axes", key)
        if not _merge(document, mistakes, ("axes",), {key: value}, Document(file=document.file)):
            continue
        if isinstance(value, list) and value:
            if len({json.dumps(one, sort_keys=True, default=str) for one in value}) < len(value):
                mistakes.add(place, "a value is there twice", expected="each value once")
            yield Axis(key=key, values=tuple(value), range=None, place=place)
        elif search and isinstance(value, dict):
            found = structure(Range, value)
            if isinstance(found, list):
                for flaw in found:
                    _say(document, mistakes, ("axes", key), flaw)
            else:
                yield Axis(key=key, values=(), range=found, place=place)
        else:
            expected = "a list of values" + (", or { low, high, log, step }" if search else "")
            mistakes.add(place, f"{show(value)} is no axis", expected=expected)


def _spelt(table: Mapping[str, Any], before: Path = ()) -> Iterable[tuple[str, Any]]:
    """Dotted key → value: to TOML, ``stages.joint.steps = [0, 50]`` without quotes is a table in a table."""
    for key, value in table.items():
        path = (*before, *(key_path(key) or (key,)))
        if isinstance(value, dict) and value and not {"low", "high"} & set(value):
            yield from _spelt(value, path)
        else:
            yield (key if not before and key_path(key) is None else dotted(path)), value


def _check(document: Document, mistakes: Mistakes, table: StudyTable, variants: Iterable[Arm], axes: Iterable[Axis]) -> None:
    """What the keys must not contradict among themselves."""
    if not table.seeds:
        mistakes.add(document.place("seeds"), "no seeds", expected="at least one")
    elif isinstance(table.seeds, int) and table.seeds > MOST:
        mistakes.add(document.place("seeds"), f"{show(table.seeds)} seeds", expected=f"up to {MOST}")
    elif isinstance(table.seeds, tuple) and len(set(table.seeds)) < len(table.seeds):
        mistakes.add(document.place("seeds"), "a seed is there twice", expected="each seed once")
    check_rules(document, mistakes, table, [arm.name for arm in variants])
    if table.design == "search":
        if table.search is None:
            mistakes.add(document.place("design"), "no [search] table says how", expected="search = { trials = 40 }")
        if not document.data.get("axes"):
            mistakes.add(document.place("design"), "nothing to search", expected="an [axes] table")
        for arm in variants:
            mistakes.add(arm.place, "a search has no variants", expected='design = "one-at-a-time" or "grid", or an axis')
    elif table.search is not None:
        mistakes.add(document.place("search"), "is read by a search only", expected='design = "search"')
    if table.design == "grid" and (arms := math.prod(len(axis.values) for axis in axes)) > MOST:
        mistakes.add(document.place("axes"), f"the product of the axes has {arms} arms", expected=f"up to {MOST}")
    if table.design == "grid" and not document.data.get("axes"):
        mistakes.add(document.place("design"), "a grid needs axes", expected="an [axes] table")
    for axis in axes:
        if table.design == "grid" and len(axis.values) < 2:
            mistakes.add(axis.place, "an axis of a grid with one value changes nothing", expected="two values or more, or [set]")


def _say(document: Document, mistakes: Mistakes, path: tuple[str, ...], flaw: Flaw) -> None:
    mistakes.add(document.place(*path, *flaw.path), flaw.what, expected=flaw.expected, nearest=flaw.nearest)
