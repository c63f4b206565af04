"""``ibllm.plugin``: what authors are promised is there, light where it says so, known to type checkers, and all that our own examples use."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ibllm import plugin

ROOT = Path(__file__).parents[2]
#: What is handed to authors as an example: templates of ``ibllm plugin new``, the sample packages, and the pages that write a plugin.
EXAMPLES = [
    *ROOT.glob("plugins/ibllm_author/templates/**/*.jinja"),
    *ROOT.glob("docs/examples/**/*.py"),
    ROOT / "docs/tutorial/write-a-plugin.md",
    ROOT / "docs/how-to/plugin.md",
]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

import plugin_reference  # noqa: E402  # the extension of the documentation is no installed module


@pytest.mark.parametrize("name", plugin.__all__)
def test_every_name_resolves(name: str) -> None:
    assert getattr(plugin, name) is not None


def test_all_of_it_at_once() -> None:
    space: dict[str, object] = {}
    exec("from ibllm.plugin import *", space)
    assert set(plugin.__all__) <= set(space) <= {*plugin.__all__, "__builtins__"}


def test_type_checkers_see_the_same_names_in_the_same_places() -> None:
    found = {}
    for node in ast.walk(ast.parse((ROOT / "plugins/ibllm/plugin.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("ibllm", "ibllm_core"):
            found |= {alias.asname: node.module for alias in node.names if alias.asname == alias.name}
    assert found == plugin._WHERE


def test_what_is_said_to_be_torch_free_is() -> None:
    free = [name for name, module in plugin._WHERE.items() if module.startswith(plugin_reference.TORCH_FREE)]
    assert {"ComponentSpec", "hookimpl", "Config", "option", "Figure", "UserError"} <= set(free)
    script = f"from ibllm.plugin import {', '.join(free)}\nimport sys\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Confg'"):
        plugin.Confg  # noqa: B018


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_use_nothing_else_of_the_core(path: Path) -> None:
    assert re.findall(r"^\s*(?:from|import) ibllm_core.*", path.read_text(encoding="utf-8"), re.MULTILINE) == []
