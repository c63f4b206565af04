"""The house is kept: rooms, their borders, its size, and the picture of it."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.boundaries import ROOMS, ROOT

CORE = ROOT / "ibllm_core"
MODULES = sorted(CORE.rglob("*.py"))
OURS = sorted(path for folder in ("ibllm_core", "plugins") for path in (ROOT / folder).rglob("*.py"))


def lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def test_the_core_can_be_held_in_ones_head():
    assert sum(map(lines, MODULES)) <= 9000


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_read_in_one_sitting(path):
    assert lines(path) <= 400
    functions = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [f.name for f in functions if f.end_lineno is not None and f.end_lineno - f.lineno > 60] == []


def test_nothing_lies_loose_in_the_core():
    assert {path.name for path in CORE.glob("*.py")} == {"__init__.py", "api.py", "errors.py"}
    assert {path.name for path in CORE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ROOMS)


def test_no_two_modules_of_the_core_have_one_name():
    names = Counter(path.stem for path in MODULES if path.stem != "__init__")
    assert [name for name, count in names.items() if count > 1] == []


def test_the_picture_in_the_architecture_is_what_the_imports_say():
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    try:
        import house
    finally:
        sys.path.pop(0)
    assert house.ROOMS == ROOMS
    assert house.PICTURE.read_text(encoding="utf-8") == house.draw(house.imports()), "draw it anew: python docs/_ext/house.py"
