"""What listing a plugin costs: importing its ``plugin.py`` and ``config.py``, each time in a fresh process. Torch-free."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from importlib import metadata

import attrs

from ibllm_core.host.entry_points import PLUGINS
from ibllm_core.host.manager import Manager

from .checked_package import Subject
from .process import NoAnswer, ask, python

#: Modules that take so long to import that nobody should wait for them who only lists plugins.
HEAVY = (
    "matplotlib",
    "pandas",
    "peft",
    "rich",
    "sacrebleu",
    "scipy",
    "statsmodels",
    "tensorboardX",
    "tensorflow",
    "tokenizers",
    "torch",
    "transformers",
)
#: Rounds of fresh processes, one of each sort; no more are begun after LONGEST seconds.
ROUNDS, LONGEST = 5, 5.0
_CODE = """\
import importlib, json, sys, time
import ibllm_core.host.hookspecs, ibllm_core.host.options, ibllm_core.host.spec
given, heavy = json.loads(sys.argv[1])
began = time.perf_counter()
for module in given:
    importlib.import_module(module)
took = time.perf_counter() - began
with open(sys.argv[2], "w") as file:
    json.dump([took, [name for name in heavy if name in sys.modules]], file)
"""


@attrs.frozen
class ImportCost:
    """Medians over fresh processes.

    Attributes:
        modules: what was imported.
        milliseconds: that they took, after what every plugin needs of ibllm.
        bare: milliseconds of ``python -c pass``.
        ratio: start and end of Python with them ÷ bare Python's.
        without: the same ratio for what every plugin needs of ibllm, without them.
        heavy: those of `HEAVY` that came along.
        error: why they cannot be imported; empty where they can.
    """

    modules: tuple[str, ...]
    milliseconds: float = 0.0
    bare: float = 0.0
    ratio: float = 0.0
    without: float = 0.0
    heavy: tuple[str, ...] = ()
    error: str = ""


def modules(manager: Manager, subject: Subject) -> tuple[str, ...]:
    """The modules of the entry points and those of the options."""
    found = [point for name in subject.plugins for point in metadata.entry_points(group=PLUGINS, name=name)]
    points = [point.module for point in found if point.dist is not None and point.dist.name == subject.distribution]
    configs = [manager.get(c.kind, c.name).config.partition(":")[0] for c in subject.components]
    return tuple(dict.fromkeys((*points, *configs)))


def cost(names: Sequence[str]) -> ImportCost:
    """Imports `names` in fresh processes, in turns with bare Python."""
    made = ImportCost(tuple(names))
    bare: list[float] = []
    plain: list[float] = []
    whole: list[float] = []
    own: list[float] = []
    heavy: list[str] = []
    started = time.perf_counter()
    for number in range(ROUNDS):
        began = time.perf_counter()
        if number and began - started > LONGEST:
            break
        python("-c", "pass")
        bare.append(time.perf_counter() - began)
        for given, totals in (((), plain), (names, whole)):
            began = time.perf_counter()
            try:
                took, heavy = ask("-c", _CODE, json.dumps([given, HEAVY]))
            except NoAnswer as error:
                return attrs.evolve(made, error=str(error))
            totals.append(time.perf_counter() - began)
        own.append(took)
    first = statistics.median(bare)
    return attrs.evolve(
        made,
        milliseconds=round(1e3 * statistics.median(own), 2),
        bare=round(1e3 * first, 2),
        ratio=round(statistics.median(whole) / first, 3),
        without=round(statistics.median(plain) / first, 3),
        heavy=tuple(heavy),
    )
