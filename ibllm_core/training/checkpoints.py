"""Checkpoints: atomic, hashed, newest good one wins. Tensors are safetensors, the rest is JSON; nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..runs.model_folder import write_weights

_STATE, _HASHES = "state.json", "hashes.json"


@attrs.frozen(eq=False)
class Checkpoint:
    """What a run needs to go on bit for bit.

    Attributes:
        state: counters, what validation has steered, figures: JSON.
        tensors: group (``weights``, ``ema``, ``optimizer-model``, …) → name → tensor.
    """

    state: dict[str, Any]
    tensors: Mapping[str, Mapping[str, Tensor]]


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint beside `folder` and renames it there, so that a folder of this name is always whole."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for group, tensors in checkpoint.tensors.items():
        write_weights(partial / f"{group}.safetensors", tensors)
    (partial / _STATE).write_text(json.dumps(checkpoint.state), encoding="utf-8")
    hashes = {path.name: _sha256(path) for path in sorted(partial.iterdir())}
    (partial / _HASHES).write_text(json.dumps(hashes), encoding="utf-8")
    for path in (*partial.iterdir(), partial):
        _sync(path)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    _sync(folder.parent)
    return folder


def load(folder: Path) -> Checkpoint | None:
    """The checkpoint of a folder, or None where it is damaged."""
    try:
        hashes = json.loads((folder / _HASHES).read_text(encoding="utf-8"))
        if any(_sha256(folder / name) != digest for name, digest in hashes.items()):
            return None
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        return Checkpoint(state, {Path(name).stem: load_file(folder / name) for name in hashes if name.endswith(".safetensors")})
    except (OSError, ValueError, SafetensorError):
        return None


def all_in(folder: Path) -> list[Path]:
    """The checkpoints of a folder, newest (most steps) first."""
    return sorted((path for path in folder.glob("step-*") if path.is_dir()), reverse=True)


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None."""
    return next((found for path in all_in(folder) if (found := load(path)) is not None), None)


def prune(folder: Path, keep: int) -> None:
    """Removes all but the newest `keep` checkpoints; those at the end of a stage stay."""
    passing = [path for path in all_in(folder) if not path.name.endswith("-end")]
    for path in passing[keep:]:
        shutil.rmtree(path, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
