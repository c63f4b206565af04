"""The conformance suites, run by pytest on the components of one package in a process of its own. Torch-free."""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree import ElementTree

import attrs

from ibllm_core.errors import UserError

from .checked_package import Component, Subject
from .process import last_words, python

#: One module a kind; classes of one kind have different names.
_MODULE = """\
from ibllm_testing import SUITES, cover

globals().update(cover(SUITES[{kind!r}], {distribution!r}, {presets!r}, but={others!r}))
"""
#: How the reason of a check that was skipped by `ibllm_testing.Suite.excuses` begins; said here too, for that module needs torch.
EXCUSED = "excused: "
#: The line that pytest ends a traceback with.
_PLACE = re.compile(r"^(.+):(\d+): \w+$", re.MULTILINE)


@attrs.frozen
class Verdict:
    """How a component did.

    Attributes:
        status: ``passed``, ``failed``, or ``untested`` where it could not be tried.
        checks: how many there were; `skipped` of them had no place here.
        excused: check → why the package says that it cannot be kept; not among the skipped.
        failures: check → what is wrong; for one that is untested, why it is.
        seconds: that the checks took.
    """

    status: str
    checks: int = 0
    skipped: int = 0
    failures: Mapping[str, str] = attrs.field(factory=dict)
    excused: Mapping[str, str] = attrs.field(factory=dict)
    seconds: float = 0.0


def require_pytest() -> None:
    """Raises `UserError` where pytest, which runs the suites, is not installed."""
    if importlib.util.find_spec("pytest") is None:
        raise UserError("`ibllm plugin check` needs pytest, which runs the conformance suites: pip install pytest")


def run(subject: Subject) -> dict[str, Verdict]:
    """Label (``text_encoder.pile``) → verdict."""
    tried = [component for component in subject.components if not component.hindrance]
    verdicts = {c.label: Verdict("untested", failures={"it could not be tried": c.hindrance}) for c in subject.components if c.hindrance}
    if not tried:
        return verdicts
    with tempfile.TemporaryDirectory(prefix="ibllm-check-") as name:
        folder = Path(name)
        for kind in dict.fromkeys(component.kind for component in tried):
            (folder / f"test_{kind}.py").write_text(_module(kind, subject, tried), encoding="utf-8")
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")  # nobody else's settings
        done = python(
            "-m", "pytest", "-p", "ibllm_testing.fixtures", "-p", "no:cacheprovider", "--import-mode=importlib",
            "-c", str(folder / "pytest.ini"), "--rootdir", name, "--junitxml", str(folder / "result.xml"), name,
            folder=folder,
        )  # fmt: skip
        cases = _cases(folder / "result.xml")
    for component in tried:
        own = [case for case in cases if _class_of(case).partition("/")[0] == f"test_{component.kind}.Test_{component.name}"]
        verdicts[component.label] = _verdict(own) if own else Verdict("failed", failures={"the checks ended early": last_words(done)})
    return {component.label: verdicts[component.label] for component in subject.components}


def _module(kind: str, subject: Subject, tried: Iterable[Component]) -> str:
    own = [component for component in tried if component.kind == kind]
    presets = {component.name: {"options": dict(component.options), **component.surroundings} for component in own}
    others = _others(kind, subject, presets)
    return _MODULE.format(kind=kind, distribution=subject.distribution, presets=presets, others=others)


def _others(kind: str, subject: Subject, presets: Mapping[str, object]) -> list[str]:
    """Components of the distribution that are not tried: of other plugins of its, or wanting options."""
    from ibllm_core.host.manager import manager

    return [
        row.name for row in manager().rows() if (row.kind, row.distribution) == (kind, subject.distribution) and row.name not in presets
    ]


def _cases(path: Path) -> list[ElementTree.Element]:
    try:
        return list(ElementTree.parse(path).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return []


def _class_of(case: ElementTree.Element) -> str:
    return case.get("classname") or ""


def _verdict(cases: Iterable[ElementTree.Element]) -> Verdict:
    checks, skipped, seconds, failures, excused = 0, 0, 0.0, {}, {}
    for case in cases:
        variant = _class_of(case).partition("/")[2]
        name = (f"{variant}: " if variant else "") + (case.get("name") or "").removeprefix("test_").replace("_", " ")
        checks, seconds = checks + 1, seconds + float(case.get("time") or 0)
        wrong = next((found for tag in ("failure", "error") if (found := case.find(tag)) is not None), None)
        if wrong is not None:
            failures[name] = _described(wrong)
        left_out = case.find("skipped")
        reason = "" if left_out is None else left_out.get("message") or ""
        if reason.startswith(EXCUSED):
            excused[name] = reason.removeprefix(EXCUSED)
        skipped += left_out is not None and name not in excused
    return Verdict("failed" if failures else "passed", checks, skipped, failures, excused, round(seconds, 3))


def _described(wrong: ElementTree.Element) -> str:
    """The check's own message; for any other error, with the line that raised it."""
    message = " ".join((wrong.get("message") or "").split())
    if message.startswith("AssertionError: "):
        return message.removeprefix("AssertionError: ")
    places = _PLACE.findall(wrong.text or "")
    return f"{message} ({places[-1][0]}:{places[-1][1]})" if places else message
