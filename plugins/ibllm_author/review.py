"""``ibllm plugin check``: all that a maintainer needs to know of an installed package, gathered and told. Torch-free to import."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import click

from ibllm_core.errors import UserError, nearest
from ibllm_core.host.manager import Manager

from . import contract, documentation, imports
from .checked_package import Component, Subject, subject
from .process import NoAnswer, ask

#: Characters of a failure's message that are shown in the terminal; JSON has all of it.
_LONGEST = 400


@attrs.frozen
class Review:
    """What was found.

    Attributes:
        verdicts: label → how the component kept its contract.
        speed: label → what `ibllm_testing.speed.measure` gave.
        cost: of importing.
        missing: label, or an empty string for the package, → what its readers miss.
    """

    subject: Subject
    verdicts: Mapping[str, contract.Verdict]
    speed: Mapping[str, Mapping[str, Any]]
    cost: imports.ImportCost
    missing: Mapping[str, list[str]]

    @property
    def passed(self) -> bool:
        """Whether everything could be loaded and tested, and keeps its contract; nothing else makes a package fail."""
        return not self.subject.faults and all(verdict.status == "passed" for verdict in self.verdicts.values())


def review(manager: Manager, package: str, sets: Iterable[str], data: str, against: Iterable[str], say: Callable[[str], None]) -> Review:
    """Looks over an installed package.

    Args:
        sets, data: see `ibllm_author.checked_package.subject`.
        against: KIND.NAME of components to compare speed with, instead of the usual ones.
        say: told what is about to be done.

    Raises:
        UserError: no such package or component, or pytest is missing.
    """
    contract.require_pytest()
    found = subject(manager, package, sets, data)
    rivals = _rivals(manager, against)
    say(f"{found.distribution} {found.version}: checks of {', '.join(c.label for c in found.components) or 'no component'}")
    verdicts = contract.run(found)
    say("speed")
    tried = [component for component in found.components if not component.hindrance]
    speed = _speed(tried, rivals)
    say("imports")
    cost = imports.cost(imports.modules(manager, found))
    missing = {component.label: documentation.of_component(manager, component) for component in found.components}
    return Review(found, verdicts, speed, cost, {**missing, "": documentation.of_package(found)})


def _rivals(manager: Manager, against: Iterable[str]) -> dict[str, str]:
    """Kind → name."""
    rivals = {}
    for label in against:
        kind, _, name = label.partition(".")
        known = [f"{row.kind}.{row.name}" for row in manager.rows() if row.kind and row.status == "ok"]
        if label not in known:
            guess = nearest(label, known)
            raise UserError(
                f"--against {label}: expected KIND.NAME of an installed component" + (f"; did you mean {guess}?" if guess else "")
            )
        rivals[kind] = name
    return rivals


def _speed(components: list[Component], rivals: Mapping[str, str]) -> dict[str, Mapping[str, Any]]:
    tasks = [
        {"kind": c.kind, "name": c.name, "options": c.options, "surroundings": c.surroundings, "against": rivals.get(c.kind, "")}
        for c in components
    ]
    try:
        results = ask("-m", "ibllm_testing.speed", given=json.dumps(tasks, default=str)) if tasks else []
    except NoAnswer as error:
        results = [{"error": str(error)}] * len(tasks)
    return {component.label: result for component, result in zip(components, results, strict=True)}


def as_json(found: Review) -> str:
    """One object: the package, whether it passed, its components, what importing costs, what is missing."""
    about = found.subject
    components = [
        {
            "kind": component.kind,
            "name": component.name,
            "options": component.options,
            "contract": attrs.asdict(found.verdicts[component.label]),
            "speed": found.speed.get(component.label),
            "undocumented": found.missing[component.label],
        }
        for component in about.components
    ]
    top = {"distribution": about.distribution, "version": about.version, "plugins": about.plugins, "passed": found.passed}
    rest = {"faults": about.faults, "components": components, "import": attrs.asdict(found.cost), "undocumented": found.missing[""]}
    return json.dumps({**top, **rest}, indent=2, default=str)


def as_text(found: Review) -> str:
    """For people: four sections, the worst first in each."""
    about = found.subject
    lines = [click.style(f"{about.distribution} {about.version}", bold=True) + f"  plugins: {', '.join(about.plugins)}", ""]
    lines += [_head("contract"), *(_wrong(f"{label} cannot be used: {why}") for label, why in about.faults.items())]
    for label, verdict in found.verdicts.items():
        lines += _contract(label, verdict)
    if not about.components and not about.faults:
        lines.append("  it brings no component")
    if found.speed:
        lines += ["", _head("speed"), *(f"  {label}: {_described(result)}" for label, result in found.speed.items())]
    lines += ["", _head("import"), *_imported(found.cost)]
    lines += ["", _head("docs"), *(_missing(label or "the package", what) for label, what in found.missing.items())]
    return "\n".join(lines)


def _head(text: str) -> str:
    return click.style(text, bold=True)


def _wrong(text: str) -> str:
    return click.style("  " + (text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"), fg="red")


def _contract(label: str, verdict: contract.Verdict) -> list[str]:
    counts = {"skipped": verdict.skipped, "excused": len(verdict.excused)}
    skipped = "".join(f", {count} {word}" for word, count in counts.items() if count)
    excused = [f"    excused: {check}: {reason}" for check, reason in verdict.excused.items()]
    if verdict.status == "passed":
        kept = verdict.checks - verdict.skipped - len(verdict.excused)
        return [f"  {label}: {kept} checks passed{skipped}, {verdict.seconds:.1f} s", *excused]
    if verdict.status == "untested":
        return [_wrong(f"{label}: not tested: {why}") for why in verdict.failures.values()]
    head = f"{label}: {len(verdict.failures)} of {verdict.checks} checks failed{skipped}" if verdict.checks else f"{label}: failed"
    return [_wrong(head), *(_wrong(f"  {check}: {why}") for check, why in verdict.failures.items()), *excused]


def _described(result: Mapping[str, Any]) -> str:
    if "error" in result:
        return f"could not be measured: {result['error']}"
    own, other = result["milliseconds"]
    return (
        f"{result['ratio']:.2f} × the time of {result['reference']} ({result['lowest']:.2f} to {result['highest']:.2f}; {own:.3g} and {other:.3g} ms, "
        f"{result['what']}; medians of {result['rounds']} rounds in turns)"
    )


def _imported(cost: imports.ImportCost) -> list[str]:
    if cost.error:
        return [_wrong(f"{', '.join(cost.modules)} cannot be imported: {cost.error}")]
    told = f"  {', '.join(cost.modules)}: {cost.milliseconds:.1f} ms"
    ratio = (
        f"Python with them starts in {cost.ratio:.2f} × the time of bare Python ({cost.bare:.0f} ms); without them, {cost.without:.2f} ×"
    )
    heavy = [_wrong(f"they import {', '.join(cost.heavy)}, which takes long: import that inside functions")] if cost.heavy else []
    return [f"{told}; {ratio}", *heavy]


def _missing(label: str, what: list[str]) -> str:
    return f"  {label}: " + ("; ".join(what) if what else "complete")
