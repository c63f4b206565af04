"""What the shell completes beside files, commands and options: run directories, a run's splits, components. Torch-free and quick."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

#: How deep below the working directory, or below what is typed, run directories are looked for, and in how many folders.
_DEPTH, _FOLDERS = 3, 400


class RunPath(click.Path):
    """A run directory, or a folder with a model; the shell is offered those that are near."""

    name = "run"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        base, _, _ = incomplete.rpartition("/")
        start = os.path.expanduser(base) if base else "/" if incomplete.startswith("/") else "."
        prefix = f"{base}/" if base or incomplete.startswith("/") else ""
        found = [item for place in runs_below(start) if (item := prefix + place).startswith(incomplete)]
        return [CompletionItem(item) for item in found] or [CompletionItem(incomplete, type="dir")]


def runs_below(start: str) -> Iterator[str]:
    """Folders with a trained model below `start`, by name; hidden ones are passed over, and what lies within a run, too."""
    left, folders = _FOLDERS, [("", 0)]
    while folders and left:
        inside, depth = folders.pop(0)
        left -= 1
        try:
            entries = sorted(os.scandir(os.path.join(start, inside)), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.name.startswith(".") or not entry.is_dir():
                continue
            place = os.path.join(inside, entry.name)
            if _holds_a_model(entry.path):
                yield place
            elif depth + 1 < _DEPTH:
                folders.append((place, depth + 1))


def _holds_a_model(folder: str) -> bool:
    """A run directory, its model folder, or one in Hugging Face's layout."""
    there = [os.path.isfile(os.path.join(folder, name)) for name in ("recipe.toml", "model.safetensors")]
    return any(there)


def splits_of_run(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The splits that the recipe of the argument `run` reports on."""
    run = ctx.params.get("run") or next(iter(ctx.args), "")  # an option without its value leaves arguments unread
    try:
        recipe = tomllib.loads((Path(run) / "recipe.toml").read_text(encoding="utf-8"))
        return [str(name) for name in recipe["evaluation"]["splits"] if str(name).startswith(incomplete)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def components(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """KIND.NAME of every component."""
    from ibllm_core.host.manager import manager

    names = (f"{row.kind}.{row.name}" for row in manager().rows() if row.kind)
    return sorted({name for name in names if name.startswith(incomplete)})


#: The type of an argument that names a trained run.
RUN = RunPath()
