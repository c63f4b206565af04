"""Numbers that are turned by hand, or by a program, while a run trains: what may be turned, how one asks for it, and what a run has recorded. Torch-free.

A knob is ``KEY=VALUE``, like an override of the recipe. Who asks for it leaves a file in the run's folder ``knobs/``; the run takes it up at a step
boundary and records it, with its step, in ``knobs.json``, before it acts. What is recorded there is played again by ``--resume`` and by
``ibllm run --knobs RUN``.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import attrs

from ibllm.course import Place, unfit
from ibllm.resolved import resolved
from ibllm_core.errors import UserError, suggestion
from ibllm_core.host.options import Config
from ibllm_core.recipe import load
from ibllm_core.recipe.locate import Component, dotted, split_key
from ibllm_core.recipe.schema import Recipe
from ibllm_core.recipe.words import keys, sections
from ibllm_core.runs.directory import RunDirectory, read_json, remove, write_json

__all__ = ["FILE", "Knob", "Movable", "asked", "movable", "recorded", "replaying", "turn"]

#: In a run's directory: what was turned, and the folder of what is asked for.
FILE, ASKED = "knobs.json", "knobs"
#: Tables of which nothing is read while a stage trains, or whose figures have to stay comparable.
_STILL = ("tokenizers", "metrics", "trackers", "compute", "evaluation", "plugins")
#: The knobs that a new run plays again, those of another one.
_REPLAYED: ContextVar[tuple[Knob, ...]] = ContextVar("replayed", default=())
#: Run directories that this process trains in → what takes a knob up without a file.
RUNNING: dict[Path, Callable[[Mapping[str, Any]], None]] = {}


@attrs.frozen(kw_only=True)
class Movable:
    """What may be turned: its key, where it stands in the recipe's tree, its value, and the option's declaration."""

    key: str
    place: Place
    value: Any
    option: attrs.Attribute[Any]

    @property
    def range(self) -> str:
        """Its range in words; empty where it has none."""
        return str(self.option.metadata.get("range", ""))


@attrs.frozen(kw_only=True)
class Knob:
    """What was turned.

    Attributes:
        name: tells it apart from others.
        set: ``KEY=VALUE`` each.
        step: iterations over all stages that were done before it.
        stage, stage_step: the same, counted in its stage; empty and −1 until it is reached.
        time, by: when it was asked for, and by whom.
    """

    name: str
    set: tuple[str, ...]
    step: int
    stage: str = ""
    stage_step: int = -1
    time: str = ""
    by: str = ""


def movable(recipe: Recipe) -> dict[str, Movable]:
    """Everything of a recipe that may be turned while it trains, by its key."""
    found = {one.key: one for one in _movable(recipe, recipe, (), ())}
    if all(stage.training.ema == 0 for stage in recipe.running()):  # there are no averages then
        found = {key: one for key, one in found.items() if one.place[-2:] != ("training", "ema")}
    idle = {("stages", name) for name, stage in recipe.stages.items() if not stage.steps}
    return {key: one for key, one in found.items() if one.place[:2] not in idle}


def _movable(recipe: Recipe, config: Config, path: tuple[str, ...], place: Place) -> Iterator[Movable]:
    for key, option in keys(type(config)).items():
        value, here, there = getattr(config, option.name), (*path, key), (*place, option.name)
        if option.metadata.get("live") and isinstance(value, Mapping):
            for name, member in value.items():
                yield Movable(key=dotted((*here, name)), place=(*there, name), value=member, option=option)
        elif option.metadata.get("live"):
            yield Movable(key=dotted(here), place=there, value=value, option=option)
        elif isinstance(value, Config):
            yield from _movable(recipe, value, here, there)
    for held in sections(type(config)):
        if path == () and held.name in _STILL:
            continue
        inside, there = getattr(config, held.name), (*place, held.name)
        here = path if held.spread else (*path, held.name)
        named = [(name, one) for name, one in inside.items()] if held.named else [("", inside)]
        for name, one in named:
            deeper = [name] if name else []
            table = one.config if isinstance(one, Component) else one
            # A stage's or a player's component is the recipe's own where it has no other.
            if isinstance(table, Config) and not (path and one is getattr(recipe, held.name, None)):
                yield from _movable(recipe, table, (*here, *deeper), (*there, *deeper))


def reread(recipe: Recipe, sets: Iterable[str]) -> Recipe:
    """A resolved recipe with overrides. Raises `UserError` for what is wrong with them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "recipe.toml")
        file.write_text(recipe.source, encoding="utf-8")
        try:
            found = load(file, tuple(sets), recorded=True)
        except UserError as error:
            told = [line.replace("--set ", "") for line in str(error).splitlines() if str(file) not in line and "mistake" not in line]
            raise UserError("\n".join(told).strip()) from error
    if (wrong := unfit(found)) is not None:
        raise wrong
    return found


def checked(recipe: Recipe, sets: Sequence[str], before: Sequence[str] = (), done: Iterable[str] = ()) -> Recipe:
    """The recipe once some knobs are turned, after those turned before.

    Args:
        done: stages that are over.

    Raises:
        UserError: a knob that there is not, that may not be turned, or whose value the recipe does not allow.
    """
    known, gone = movable(recipe), [("stages", name) for name in done]
    for text in sets:
        split = split_key(text)
        if split is None:
            raise UserError(f"{text!r} cannot be read: expected KEY=VALUE with a dotted KEY, e.g. losses.cycle.weight=0.2")
        key = dotted(split[0])
        if key not in known:
            raise UserError(f"{key} {_why_still(recipe, split[0])}; {suggestion(key, known)}")
        if known[key].place[:2] in gone:
            raise UserError(f"{key}: the stage {known[key].place[1]} is over")
    return reread(recipe, (*before, *sets))


def _why_still(recipe: Recipe, path: tuple[str, ...]) -> str:
    value: Any = resolved(recipe)
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    if value is None:
        return "is no number of this recipe"
    return "stays as it is while a run trains: it is read once, for nothing says that it may change (live)"


def turn(run: str | os.PathLike[str], *sets: str, at: int | None = None, by: str = "", wait: float = 0.0) -> Knob | None:
    """Asks a run that trains, or that is to be gone on with, to turn something.

    Args:
        run: its directory.
        sets: ``KEY=VALUE`` each, as overrides of a recipe.
        at: iterations over all stages that are to be done before; by default the next step boundary, with several processes the next row of figures.
        by: who asks, for the record.
        wait: seconds to wait for the run to take it up.

    Returns:
        What the run has recorded; None where it has not taken it up yet.

    Raises:
        UserError: there is no such run, it is over, or a knob cannot be turned so.
    """
    from ibllm.opening import load_run

    directory = RunDirectory(Path(run))
    if not directory.recipe.is_file():
        raise UserError(f"{run} is no run directory: it holds no recipe.toml")
    info = directory.info()
    if info.get("status") == "done":
        raise UserError(f"{run} is done: knobs are turned while a run trains")
    ended = [str(stage.get("name")) for stage in info.get("stages", [])]
    before = [text for knob in recorded(directory.path) for text in knob.set]
    checked(load_run(directory), sets, before, ended)
    now, reached = datetime.datetime.now(datetime.UTC), step_of(directory.path)[0]
    if at is not None and at < reached:
        raise UserError(f"--at {at}: the run has done {reached} steps already; expected a later one, or none for the next")
    name = f"{now:%Y%m%dT%H%M%S.%f}-{os.getpid()}"
    asks = {"name": name, "set": list(sets), "at": at, "time": now.isoformat(timespec="seconds"), "by": by}
    here = RUNNING.get(directory.path.resolve())
    if here is not None:
        here(asks)
        return None
    (directory.path / ASKED).mkdir(exist_ok=True)
    write_json(directory.path / ASKED / f"{name}.json", asks)
    until = time.monotonic() + wait
    while True:
        if (found := next((knob for knob in recorded(directory.path) if knob.name == name), None)) is not None:
            return found
        if time.monotonic() >= until:
            return None
        time.sleep(0.05)


def asked(run: Path) -> list[dict[str, Any]]:
    """What is asked for and not taken up, the oldest first; what cannot be read is left out."""
    found = []
    for file in sorted(run.joinpath(ASKED).glob("[0-9]*.json")):
        with contextlib.suppress(UserError):
            found.append(read_json(file) or {})
    return [one for one in found if one.get("set")]


def forget(run: Path, name: str) -> None:
    """Takes back what was asked for, once it is recorded or refused."""
    remove(run / ASKED / f"{name}.json")
    with contextlib.suppress(OSError):
        run.joinpath(ASKED).rmdir()


def recorded(run: Path) -> list[Knob]:
    """What a run has turned, in order. Raises `UserError` where its file is damaged."""
    return of_file(run / FILE)


def of_file(file: Path) -> list[Knob]:
    """The knobs of a ``knobs.json``, or of a run directory; none where there is none."""
    file = file / FILE if file.is_dir() else file
    found, names = (read_json(file) or {}).get("knobs", []), {field.name for field in attrs.fields(Knob)}
    try:
        tables: list[dict[str, Any]] = [{key: value for key, value in one.items() if key in names} for one in found]
        made = [Knob(**table | {"set": tuple(map(str, table["set"]))}) for table in tables]
    except (TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{file} is damaged: {error}") from error
    return sorted(made, key=lambda knob: knob.step)


def record(run: Path, knobs: Iterable[Knob]) -> None:
    """Writes what a run has turned, whole or not at all."""
    write_json(run / FILE, {"knobs": [attrs.asdict(knob) for knob in knobs]})


@contextlib.contextmanager
def replaying(file: Path | None) -> Iterator[None]:
    """Within, a new run turns what another one did, at the same steps. Raises `UserError` where there is no such file."""
    if file is not None and not (file / FILE if file.is_dir() else file).is_file():
        raise UserError(f"--knobs {file}: there is no {FILE}: no knob of that run was turned")
    token = _REPLAYED.set(tuple(of_file(file)) if file is not None else ())
    try:
        yield
    finally:
        _REPLAYED.reset(token)


def replayed() -> tuple[Knob, ...]:
    """What a new run is to play again."""
    return _REPLAYED.get()


def step_of(run: Path) -> tuple[int, str, int]:
    """Steps that a run has logged, the stage, and steps of that stage."""
    total, stage = 0, ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in run.joinpath("metrics.jsonl").read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                if row["kind"] in ("train", "validation"):
                    total, stage = int(row["step"]), str(row["stage"])
    ended = [one for one in RunDirectory(run).info().get("stages", []) if one.get("name") != stage]
    return total, stage, total - sum(int(one.get("done", 0)) for one in ended)
