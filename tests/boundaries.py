"""Who may import whom: the contracts for import-linter, their lists read off the folder. ``python tests/boundaries.py`` checks them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: The rooms of the core, the highest first: each may import those below it.
ROOMS = ("training", "runs", "model", "recipe", "interfaces", "host")
#: Tool plugins, which bring commands and use the core's rooms, and the other tools that each may use.
TOOLS = {
    "ibllm_attack": ("ibllm_cli", "ibllm_report", "ibllm_use"),
    "ibllm_author": ("ibllm_cli", "ibllm_inspect", "ibllm_testing"),
    "ibllm_cli": (),
    "ibllm_data": ("ibllm_cli", "ibllm_report"),
    "ibllm_diagnose": (),
    "ibllm_export": ("ibllm_cli", "ibllm_use"),
    "ibllm_inspect": ("ibllm_cli",),
    "ibllm_knob": ("ibllm_cli",),
    "ibllm_launchers": (),
    "ibllm_profile": ("ibllm_cli",),
    "ibllm_report": ("ibllm_cli",),
    "ibllm_runs": ("ibllm_cli", "ibllm_report"),
    "ibllm_scene": ("ibllm_cli", "ibllm_use"),
    "ibllm_serve": ("ibllm_cli", "ibllm_use"),
    "ibllm_study": ("ibllm_cli", "ibllm_inspect", "ibllm_report"),
    "ibllm_testing": ("ibllm_cli", "ibllm_inspect"),
    "ibllm_use": ("ibllm_cli",),
    "ibllm_watch": (),
}


def plugins() -> tuple[str, ...]:
    """The import packages in ``plugins/``, without the thin package `ibllm`."""
    return tuple(sorted(path.name for path in (ROOT / "plugins").glob("ibllm_*") if (path / "__init__.py").is_file()))


def parts() -> tuple[str, ...]:
    """The plugins that are no tools."""
    return tuple(name for name in plugins() if name not in TOOLS)


def configuration() -> str:
    """An import-linter configuration (INI)."""
    rooms = [f"ibllm_core.{room}" for room in ROOMS]
    sections = [
        f"[importlinter]\nroot_packages = {_list(['ibllm', 'ibllm_core', *plugins()])}\nexclude_type_checking_imports = True\n",
        _contract("the rooms of the core", "layers", layers=[*rooms, "ibllm_core.errors"]),
        _contract("the core imports no plugin", "forbidden", source_modules=["ibllm_core"], forbidden_modules=plugins()),
        _contract("parts never import each other", "independence", modules=parts()),
        _contract("parts know no tools", "forbidden", source_modules=parts(), forbidden_modules=TOOLS),
        _contract("tools import no parts", "forbidden", source_modules=TOOLS, forbidden_modules=parts()),
        _contract(
            "parts are written with ibllm.plugin alone",
            "forbidden",
            source_modules=parts(),
            forbidden_modules=["ibllm_core", "ibllm.blocks", "ibllm.contracts"],
            allow_indirect_imports=True,
        ),
    ]
    for tool, uses in TOOLS.items():
        others = [name for name in TOOLS if name != tool and name not in uses]
        sections.append(_contract(f"what {tool} uses", "forbidden", source_modules=[tool], forbidden_modules=others))
    return "\n".join(sections)


def _contract(name: str, type: str, **fields: object) -> str:
    lines = (f"{key} = {value if isinstance(value, bool) else _list(value)}" for key, value in fields.items())  # type: ignore[arg-type]
    return "\n".join([f"[importlinter:contract:{name}]", f"name = {name}", f"type = {type}", *lines, ""])


def _list(names: Iterable[str]) -> str:
    return "".join(f"\n    {name}" for name in names)


def main() -> int:
    """Runs import-linter with the contracts; its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "importlinter.ini")
        path.write_text(configuration(), encoding="utf-8")
        tool = Path(sys.executable).parent / "lint-imports"
        return subprocess.run([str(tool), "--config", str(path), "--no-cache"], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
