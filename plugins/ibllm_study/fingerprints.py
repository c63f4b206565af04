"""Which runs were made with the same source, versions and data, as their records say. Torch-free."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from ibllm_core.errors import UserError

from .findings import Findings, FoundArm, FoundRun

#: What stands where a run does not say.
UNKNOWN = "?"


@attrs.frozen(kw_only=True)
class States:
    """The states that a study's runs were made in: a letter each, in the order of the runs.

    Attributes:
        source: (arm, seed) → letter: runs of one letter agree in the source and the versions of whatever they both use.
        data: (arm, seed) → letter: runs of one letter had the same data, bit for bit.
        mixed: what the finished runs have otherwise of source and versions, by name.
        mixed_data: arms whose own runs had different data.
    """

    source: Mapping[tuple[str, int], str]
    data: Mapping[tuple[str, int], str]
    mixed: Sequence[str]
    mixed_data: Sequence[str]


def states(found: Findings) -> States:
    """The states of the runs that have figures."""
    done = [(arm, run) for arm, run in found.runs if run.done]
    made = {(arm.name, run.seed): _made_with(run) for arm, run in done}
    values: dict[str, set[str]] = {}
    for record in made.values():
        for name, value in record.items():
            values.setdefault(name, set()).add(value)
    varying = sorted(name for name, known in values.items() if len(known) > 1)
    known: list[dict[str, str]] = []
    source = {}
    for key, record in made.items():
        own = {name: record[name] for name in varying if name in record}
        number = next(
            (n for n, state in enumerate(known) if all(state.get(name, value) == value for name, value in own.items())), len(known)
        )
        known[number:] = known[number:] or [{}]
        known[number] |= own
        source[key] = _letter(number) if record else UNKNOWN
    digests = {(arm.name, run.seed): _data(run) for arm, run in done}
    order = list(dict.fromkeys(digest for digest in digests.values() if digest))
    data = {key: _letter(order.index(digest)) if digest else UNKNOWN for key, digest in digests.items()}
    return States(source=source, data=data, mixed=varying, mixed_data=[arm.name for arm in found.arms if _differ(arm, data)])


def refuse_mixed(found: Findings) -> None:
    """Raises `UserError` where runs of other source, or one arm's of other data or versions, would be taken for the same thing."""
    now = states(found)
    sources = {name for _, run in found.runs for name in run.info.get("sources") or {}}
    within = [name for name in now.mixed if name not in sources and any(_vary(arm, name) for arm in found.arms)]
    wrong = [name for name in now.mixed if name in sources] + within
    if wrong or now.mixed_data:
        of = [*([f"another state of {', '.join(wrong)}"] if wrong else []), *(f"other data in {name}" for name in now.mixed_data)]
        raise UserError(
            f"these runs were not all made alike: {'; '.join(of)} ({'; '.join(told(now.source if wrong else now.data))}); "
            "compare runs of one state, or take them as they are (--accept-code)"
        )


def told(letters: Mapping[tuple[str, int], str]) -> list[str]:
    """Each letter with its runs: ``A: base 0, 1``."""
    found: dict[str, dict[str, list[str]]] = {}
    for (arm, seed), letter in letters.items():
        found.setdefault(letter, {}).setdefault(arm, []).append(str(seed))
    runs = {letter: "; ".join(f"{arm} {', '.join(seeds)}" for arm, seeds in arms.items()) for letter, arms in sorted(found.items())}
    return [f"{letter}: {which}" for letter, which in runs.items()]


def _made_with(run: FoundRun) -> dict[str, str]:
    """Package or run → the hash of its source or its weights; distribution → version."""
    provenance = run.info.get("provenance")
    entries = list(provenance.values()) if isinstance(provenance, Mapping) else []
    versions = {str(e.get("distribution")): str(e.get("version")) for e in entries if isinstance(e, Mapping)}
    named = run.info.get("versions")
    return {**versions, **_texts(named), **_texts(run.info.get("sources"))}


def _texts(table: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in table.items()} if isinstance(table, Mapping) else {}


def _data(run: FoundRun) -> str:
    found = run.info.get("fingerprint")
    return json.dumps(found, sort_keys=True) if isinstance(found, Mapping) and found else ""


def _differ(arm: FoundArm, data: Mapping[tuple[str, int], str]) -> bool:
    return len(set(_of(arm, data)) - {UNKNOWN}) > 1


def _of(arm: FoundArm, letters: Mapping[tuple[str, int], str]) -> Iterable[str]:
    return (letters[arm.name, seed] for seed, run in arm.runs.items() if run.done)


def _vary(arm: FoundArm, name: str) -> bool:
    return len({value for run in arm.done if (value := _made_with(run).get(name))}) > 1


def _letter(number: int) -> str:
    """A, B, … Z, A1, B1, …"""
    return string.ascii_uppercase[number % 26] + (str(number // 26) if number >= 26 else "")
