"""Kinds as users name them; how a package says that its components are to be tested: ``conformance.toml`` beside its ``plugin.py``. Torch-free."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from ibllm_core.errors import UserError, suggestion
from ibllm_core.host import manager as plugins
from ibllm_core.host.spec import KINDS

#: The file's name; it has tables ``[KIND.NAME]`` of attributes of the kind's suite.
PRESETS = "conformance.toml"


def require_kind(kind: str, where: str = "") -> None:
    """Raises `UserError`, its message beginning with `where`, where there is no such kind."""
    if kind not in KINDS:
        raise UserError(f"{where}no kind {kind!r}; {suggestion(kind, KINDS)}")


def packaged_presets(distribution: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Kind → component, or ``component/variant`` → attributes of its suite (``options``, ``excuses``, …), as the package's files say; arrays are tuples.

    Raises:
        UserError: a file that cannot be read, or that is not made of tables ``[KIND.NAME]``.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    files = {Path(row.file).with_name(PRESETS) for row in plugins.manager().rows() if row.distribution == distribution and row.file}
    for file in sorted(path for path in files if path.is_file()):
        try:
            tables = tomllib.loads(file.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise UserError(f"{file} cannot be read: {error}") from error
        for kind, components in tables.items():
            require_kind(kind, f"{file}: ")
            for name, attributes in components.items() if isinstance(components, dict) else [("NAME", None)]:
                if not isinstance(attributes, dict):
                    raise UserError(f"{file}: {kind}.{name}: expected a table [{kind}.{name}] of a suite's attributes, such as options")
                plain = {key: tuple(value) if isinstance(value, list) else value for key, value in attributes.items()}
                found.setdefault(kind, {})[name] = plain
    return found
