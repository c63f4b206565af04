"""The hooks and the interfaces, as the code declares them: parts of the reference that `generated` asks for."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from ibllm.kinds import KINDS
from ibllm_core.host import hookspecs

#: A plugin with an example of every hook, each below the comment that says what it does.
EXAMPLES = Path(__file__).parents[1] / "examples" / "hooks.py"


@attrs.frozen
class Hook:
    """A hook: its name, the names of its arguments, the first sentence on it, and its example: what it does, and its code."""

    name: str
    arguments: tuple[str, ...]
    summary: str
    example: tuple[str, str]


def all_hooks() -> list[Hook]:
    """Every hook, in the order in which hookspecs.py declares them."""
    functions: list[tuple[str, Callable[..., Any]]] = [
        (name, value) for name, value in vars(hookspecs).items() if name.startswith(f"{hookspecs.PROJECT}_") and inspect.isfunction(value)
    ]
    written = re.split(r"\n\n\n# ", EXAMPLES.read_text(encoding="utf-8"))
    found = []
    for name, function in functions:
        said = next((text for text in written if f"\ndef {name}(" in text), "")
        example = (said.partition("\n")[0], said.partition("\n")[2].strip())
        doc = inspect.cleandoc(function.__doc__ or "")
        found.append(Hook(name, tuple(inspect.signature(function).parameters), " ".join(doc.partition("\n\n")[0].split()), example))
    return found


def hook_table() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: each hook, when it is called, what it is told."""
    rows = [(f"[`{h.name}`](#{_anchor(h.name)})", h.summary, ", ".join(f"`{a}`" for a in h.arguments) or "nothing") for h in all_hooks()]
    return ("hook", "when", "it may take"), rows


def hook_arguments() -> list[tuple[str, str]]:
    """What hooks are told: each argument and its meaning, as the module describes them for all hooks."""
    told = (hookspecs.__doc__ or "").partition("Args:\n")[2]
    return re.findall(r"^    (\w+): (.*)$", told, re.MULTILINE)


def hook_sections() -> str:
    """Every hook with its example."""
    return "\n\n".join(
        f"({_anchor(h.name)})=\n### `{h.name}`\n\n```{{eval-rst}}\n.. autofunction:: ibllm_core.host.hookspecs.{h.name}\n```\n\n"
        f"{h.example[0]}\n\n```python\n{h.example[1]}\n```"
        for h in all_hooks()
    )


#: Modules that a ``plugin.py`` or a ``config.py`` may use; tests/plugins/test_surface.py imports them without torch.
TORCH_FREE = (
    "ibllm_core.errors",
    "ibllm_core.host.",
    "ibllm.added",
    "ibllm.capabilities",
    "ibllm.figures",
    "ibllm.kinds",
    "ibllm.local_model",
    "ibllm.pictures",
    "ibllm_core.recipe.",
    "ibllm_core.training.events",
)


def surface_table() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: each name of ``ibllm.plugin``, what it is, its module, and ``yes`` where it comes without torch."""
    from ibllm import plugin

    rows = [(name, _about(getattr(plugin, name)), module, _free(module)) for name, module in sorted(plugin._WHERE.items())]
    return ("name", "what", "lives in", "torch-free"), rows


def _free(module: str) -> str:
    return "yes" if module.startswith(TORCH_FREE) else ""


def _about(found: object) -> str:
    """The first sentence of its docstring, or the value of a constant."""
    if inspect.isclass(found) or inspect.isfunction(found):
        paragraph = " ".join(inspect.cleandoc(found.__doc__ or "").partition("\n\n")[0].split())
        return re.split(r"(?<=[.:;]) (?=[A-Z`])", paragraph)[0].rstrip(".:;")
    kinds = ((types.UnionType, "a type"), (Mapping, "a table"), (Callable, "a decorator"))
    return next((what for kind, what in kinds if isinstance(found, kind)), repr(found))  # type: ignore[arg-type]


def interface_table() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: each kind, its abstract class, its axes, and the suite that asks for all of it."""
    from ibllm_testing import SUITES

    rows = []
    for kind in KINDS.values():
        module, _, name = kind.interface.partition(":")
        components = f"[`{kind.name}`](components/{kind.name}.md)"
        rows.append((components, f"{{py:class}}`{name} <{module}.{name}>`", kind.axes or "none", f"`{SUITES[kind.name].__name__}`"))
    return ("kind", "interface", "axes", "suite"), rows


def _anchor(name: str) -> str:
    return f"hook-{name}".replace("_", "-")
