"""What two runs have in common up to the end of a stage, and where what was trained once is kept for the others. Torch-free."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from ibllm.data_prints import of_files
from ibllm.resolved import resolved
from ibllm.sources import sources
from ibllm_core.errors import UserError
from ibllm_core.host.options import LossConfig
from ibllm_core.recipe.schema import Recipe
from ibllm_core.runs.directory import RunDirectory, read_json


@attrs.frozen(kw_only=True)
class Prefix:
    """A run up to the end of one of its stages.

    Attributes:
        stage: that stage.
        step: iterations done by then, over all stages.
        key: equal for two runs that are the same so far, bit for bit on the same device.
    """

    stage: str
    step: int
    key: str


#: Package or run → the hash that a key is made with instead of what is here now; None for keys that do without, as those of ibllm 0.1.0.
Accepted = Mapping[str, str] | None
NOTHING_ACCEPTED: Accepted = MappingProxyType({})


@functools.cache
def version(distribution: str) -> str:
    """A distribution's version; a process goes on with what it has imported."""
    return metadata.version(distribution)


def finished(run: RunDirectory) -> bool:
    """True where a run is done and its figures can be read."""
    try:
        return run.info().get("status") == "done" and bool(read_json(run.results))
    except (UserError, OSError):
        return False


def run_key(recipe: Recipe, accepted: Accepted = NOTHING_ACCEPTED) -> str:
    """Equal for two runs that train and measure the same: seed, versions, source and the weights they start from included, the recipe's name not."""
    tables = resolved(recipe, added=False)
    del tables["name"], tables["trackers"]
    return _digest([_versions(recipe, sources(recipe), accepted), tables])


def prefixes(recipe: Recipe, accepted: Accepted = NOTHING_ACCEPTED) -> tuple[Prefix, ...]:
    """The run's prefixes, one a stage; the last is the whole training, with which a longer run may begin."""
    found, step, tables = [], 0, resolved(recipe, added=False)
    for number, stage in enumerate(recipe.running(), 1):
        step += stage.steps
        found.append(Prefix(stage=stage.name, step=step, key=_digest(_so_far(recipe, tables, number, accepted), ordered=True)))
    return tuple(found)


def _so_far(recipe: Recipe, tables: Mapping[str, Any], count: int, accepted: Accepted) -> list[Any]:
    """Everything that the first `count` stages depend on.

    The whole model is among it: a part that is trained later has weights in the checkpoint too. Losses of later stages are not: each has its
    own stream of first weights, and a run that starts from a checkpoint makes those that the checkpoint lacks. Of data that lie in files the content
    counts; pretrained weights are named, not looked into.
    """
    running = recipe.running()
    stages = [stage.name for stage in running[:count]]
    used = {loss for name in stages for loss in recipe.stages[name].losses}
    used |= {term for name in used if isinstance(config := recipe.losses[name].component.config, LossConfig) for term in config.terms()}
    same = ("seed", "init", "plugins", "data", "unpaired", "tokenizers", "model", "metrics", "players", "compute", "evaluation")
    later = {f"losses.{name}" for name in recipe.losses if name not in used} | {f"stages.{stage.name}" for stage in running[count:]}
    return [
        _versions(recipe, sources(recipe, later), accepted),
        {name: tables[name] for name in same},
        {name: tables["losses"][name] for name in sorted(used)},
        [(name, tables["stages"][name]) for name in stages],
        any(stage.training.ema > 0 for stage in running),
    ]


def _versions(recipe: Recipe, here: Mapping[str, str], accepted: Accepted) -> Mapping[str, Any]:
    """Versions of what the results depend on, and what is `here` of what has none."""
    packages = {component.distribution: component.version for component in recipe.components().values()}
    files = of_files(recipe)
    named: dict[str, Any] = {"ibllm": version("ibllm"), "torch": version("torch"), "python": platform.python_version(), **packages}
    named |= {"data": files} if files else {}
    return named if accepted is None or not here else {**named, "sources": {name: accepted.get(name, here[name]) for name in sorted(here)}}


def _digest(value: Any, ordered: bool = False) -> str:
    """`ordered`: another order of keys is another value, for losses add up in theirs."""
    return hashlib.sha256(json.dumps(value, sort_keys=not ordered, ensure_ascii=False).encode()).hexdigest()[:20]


class Shelf:
    """Stages that were trained, each in a folder of its prefix's key: the checkpoint at the stage's end, tokenizers, and what was logged so far."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __contains__(self, prefix: Prefix) -> bool:
        return (self.path / prefix.key).is_dir()

    def keep(self, prefix: Prefix, run: RunDirectory) -> None:
        """Takes the end of a stage from a run that has just trained it. Whole or not at all; the first one stays."""
        if prefix in self:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.path / f".{prefix.key}.{os.getpid()}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            _link(run.checkpoints / end_of(prefix), partial / end_of(prefix))
            for path in (*run.checkpoints.glob("tokenizer-*.json"), run / "metrics.jsonl", run / "run.json"):
                shutil.copyfile(path, partial / path.name)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        try:
            partial.rename(self.path / prefix.key)
        except OSError:
            # Somebody else was quicker; theirs is the same.
            shutil.rmtree(partial, ignore_errors=True)

    def drop(self, prefix: Prefix) -> None:
        """Takes what is damaged off the shelf."""
        shutil.rmtree(self.path / prefix.key, ignore_errors=True)

    def start(self, prefix: Prefix, recipe: Recipe, run: RunDirectory) -> None:
        """Makes a run directory that goes on (``resume``) after the prefix's stage."""
        held = self.path / prefix.key
        run.create(recipe)
        for path in held.glob("tokenizer-*.json"):
            shutil.copyfile(path, run.checkpoints / path.name)
        shutil.copyfile(held / "metrics.jsonl", run / "metrics.jsonl")
        run.update(shared={"stage": prefix.stage, "key": prefix.key}, sources=RunDirectory(held).info().get("sources", {}))
        _link(held / end_of(prefix), run.checkpoints / end_of(prefix))


def end_of(prefix: Prefix) -> str:
    """The name of the checkpoint at the end of the prefix's stage."""
    return f"step-{prefix.step:07d}-end"


def _link(source: Path, target: Path) -> None:
    """A second name for the same files, which nobody ever writes to; copies where the file system has no such thing."""
    try:
        shutil.copytree(source, target, copy_function=os.link)
    except (OSError, shutil.Error):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
