"""Checkpoints: atomic, hashed, newest good one wins. Tensors are safetensors, the rest is JSON; nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import UserError
from ..runs.directory import replacing, sync
from ..runs.model_folder import write_weights

Tensors = Mapping[str, Mapping[str, Tensor]]

_STATE, _HASHES = "state.json", "hashes.json"
#: What every checkpoint's state says.
_KEYS = {"global_step", "records", "seconds", "stage", "step"}


@attrs.frozen(eq=False)
class Checkpoint:
    """What a run needs to go on bit for bit.

    Attributes:
        state: counters, what validation has steered, figures: JSON.
        tensors: group (``weights``, ``ema``, ``optimizer-model``, …) → name → tensor.
    """

    state: dict[str, Any]
    tensors: Tensors


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint beside `folder` and renames it there, so that a folder of this name is always whole."""
    with replacing(folder) as partial:
        partial.mkdir(parents=True)
        for group, tensors in checkpoint.tensors.items():
            write_weights(partial / f"{group}.safetensors", tensors)
        (partial / _STATE).write_text(json.dumps(checkpoint.state), encoding="utf-8")
        hashes = {path.name: _sha256(path) for path in sorted(partial.iterdir())}
        (partial / _HASHES).write_text(json.dumps(hashes), encoding="utf-8")
    sync(folder.parent)
    return folder


def load(folder: Path) -> Checkpoint:
    """The checkpoint of a folder. Raises `UserError`, which says what is wrong with it, where it is damaged."""
    try:
        hashes, state = (json.loads((folder / name).read_text(encoding="utf-8")) for name in (_HASHES, _STATE))
        if not isinstance(hashes, dict) or not {_STATE, "weights.safetensors"} <= hashes.keys():
            raise UserError(f"{_HASHES} does not name the files of a checkpoint")
        if changed := [name for name, digest in hashes.items() if _sha256(folder / name) != digest]:
            raise UserError(f"{', '.join(changed)} is not as it was written")
        if not isinstance(state, dict) or not state.keys() >= _KEYS:
            raise UserError(f"{_STATE} does not hold {', '.join(sorted(_KEYS))}")
        tensors = {Path(name).stem: load_file(folder / name) for name in hashes if name.endswith(".safetensors")}
        # ibllm 0.1 wrote the losses' weights apart.
        tensors["weights"] |= {f"losses.{name}": tensor for name, tensor in tensors.pop("losses", {}).items()}
        return Checkpoint(state, tensors)
    except OSError as error:
        raise UserError(f"{Path(error.filename or folder).name}: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise UserError(f"cannot be read: {error}") from error


def all_in(folder: Path) -> list[Path]:
    """The checkpoints of a folder, newest (most steps) first."""
    return sorted((path for path in folder.glob("step-*") if path.is_dir()), reverse=True)


def newest(folder: Path, flaws: Callable[[Tensors], str] = lambda groups: "") -> tuple[Checkpoint | None, dict[str, str]]:
    """The newest checkpoint that is whole and whose tensors have no `flaws`, or None; and those that are passed over: name → why."""
    passed: dict[str, str] = {}
    for path in all_in(folder):
        try:
            found = load(path)
            if not (said := flaws(found.tensors)):
                return found, passed
            passed[path.name] = said
        except UserError as error:
            passed[path.name] = error.message
    return None, passed


def set_aside(folder: Path, names: Iterable[str]) -> None:
    """Renames checkpoints that are damaged, so that they take no whole one's place."""
    for name in names:
        shutil.rmtree(folder / f"damaged-{name}", ignore_errors=True)
        (folder / name).rename(folder / f"damaged-{name}")


def prune(folder: Path, keep: int) -> None:
    """Removes all but the newest `keep` checkpoints; those at the end of a stage stay."""
    passing = [path for path in all_in(folder) if not path.name.endswith("-end")]
    for path in passing[keep:]:
        shutil.rmtree(path, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
