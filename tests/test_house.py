"""The house is kept: rooms, their borders, its size, and the picture of it."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from pathlib import Path

import attrs
import pytest

from tests.boundaries import ROOMS, ROOT

CORE = ROOT / "ibllm_core"
MODULES = sorted(CORE.rglob("*.py"))
OURS = sorted(path for folder in ("ibllm_core", "plugins") for path in (ROOT / folder).rglob("*.py"))


def lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def test_the_core_can_be_held_in_ones_head():
    assert sum(map(lines, MODULES)) < 9000


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_read_in_one_sitting(path):
    assert lines(path) <= 400
    functions = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [f.name for f in functions if f.end_lineno is not None and f.end_lineno - f.lineno > 60] == []


def test_nothing_lies_loose_in_the_core():
    assert {path.name for path in CORE.glob("*.py")} == {"__init__.py", "errors.py"}
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


def names_of_plugins() -> set[str]:
    """Every dataset, split, metric and figure of the installed plugins, but for words that are the core's as well."""
    from ibllm_core.host.manager import manager
    from ibllm_core.host.options import DatasetConfig, MetricConfig

    found: set[str] = set()
    for row in manager().rows():
        if row.kind in ("dataset", "metric") and row.status == "ok":
            cls = manager().config_class(row.kind, row.name)
            needed = {field.name: "x" for field in attrs.fields(cls) if field.default is attrs.NOTHING}
            config = cls(**needed)
            found |= {row.name, *(config.splits() if isinstance(config, DatasetConfig) else ())}
            found |= set(config.names()) if isinstance(config, MetricConfig) else set()
    # `reconstruction` is a step of the cycle, too.
    return found - {"train", "validation", "test", "reconstruction"}


def test_the_core_names_no_dataset_split_metric_or_figure_of_a_plugin():
    names = names_of_plugins()
    assert {"novel", "scene_exact", "shapes", "tone"} <= names
    long = [re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])") for name in names if re.search("[-_]", name)]
    said = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and (text in names or any(pattern.search(text) for pattern in long)):
                said.append(f"{path.relative_to(ROOT)}:{node.lineno}: {text[:60]}")
    assert said == []
