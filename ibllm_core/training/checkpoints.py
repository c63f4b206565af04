"""Checkpoints: atomic, hashed, newest good one wins. Tensors are safetensors, the rest is JSON; nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import UserError
from ..model.sharding import in_shards
from ..model.shares import Ranks
from ..runs.directory import parsed, replacing, sync
from ..runs.model_folder import write_weights

Tensors = Mapping[str, Mapping[str, Tensor]]

_STATE, _HASHES = "state.json", "hashes.json"
#: What every checkpoint's state says.
_KEYS = {"global_step": int, "records": list, "seconds": dict, "stage": int, "step": int}


@attrs.frozen(eq=False)
class Checkpoint:
    """What a run needs to go on bit for bit.

    Attributes:
        state: counters, what validation has steered, figures: JSON.
        tensors: group (``weights``, ``ema``, ``optimizer-model``, …) → name → tensor.
    """

    state: dict[str, Any]
    tensors: Tensors


def save(folder: Path, checkpoint: Checkpoint, ranks: Ranks | None = None) -> Path:
    """Writes a checkpoint beside `folder` and renames it there, so that a folder of this name is always whole.

    Args:
        ranks: where it has tensors in shards, of which each process writes its own: all of them call this.
    """
    ranks = ranks or Ranks()
    with replacing(folder) if ranks.first else nullcontext(folder) as made:
        if ranks.first:
            made.mkdir(parents=True)
        partial = ranks.firsts(made)
        for group, tensors in checkpoint.tensors.items():
            if any(map(in_shards, tensors.values())):
                from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
                from torch.distributed.checkpoint.state_dict_saver import save as save_shards

                save_shards(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(partial / group), save_distributed=True))
            elif ranks.first:
                write_weights(partial / f"{group}.safetensors", tensors)
        ranks.wait()
        if ranks.first:
            (partial / _STATE).write_text(json.dumps(checkpoint.state), encoding="utf-8")
            written = sorted(path for path in partial.rglob("*") if path.is_file())
            hashes = {path.relative_to(partial).as_posix(): _sha256(path) for path in written}
            (partial / _HASHES).write_text(json.dumps(hashes), encoding="utf-8")
    if ranks.first:
        sync(folder.parent)
    return folder


def load(folder: Path) -> Checkpoint:
    """The checkpoint of a folder. Raises `UserError`, which says what is wrong with it, where it is damaged."""
    try:
        hashes, state = (parsed(folder / name) for name in (_HASHES, _STATE))
        groups = {name.partition("/")[0].removesuffix(".safetensors") for name in hashes} if isinstance(hashes, dict) else set()
        if not {_STATE, "weights"} <= groups or any(".." in name.split("/") or name.startswith("/") for name in hashes):
            raise UserError(f"{_HASHES} does not name the files of a checkpoint")
        if changed := [name for name, digest in hashes.items() if _sha256(folder / name) != digest]:
            raise UserError(f"{', '.join(changed)} is not as it was written")
        if not isinstance(state, dict) or not all(isinstance(state.get(name), kind) for name, kind in _KEYS.items()):
            raise UserError(f"{_STATE} does not hold {', '.join(_KEYS)}")
        files = {group: folder / f"{group}.safetensors" for group in sorted(groups - {_STATE})}
        tensors = {group: load_file(path) if path.is_file() else _gathered(folder / group) for group, path in files.items()}
        # ibllm 0.1 wrote the losses' weights apart.
        tensors["weights"] |= {f"losses.{name}": tensor for name, tensor in tensors.pop("losses", {}).items()}
        return Checkpoint(state, tensors)
    except OSError as error:
        raise UserError(f"{Path(error.filename or folder).name}: {error.strerror}") from error
    except SafetensorError as error:
        raise UserError(f"cannot be read: {error}") from error


def _gathered(folder: Path) -> dict[str, Tensor]:
    """The whole tensors of a group that was written in shards."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load as load_shards

    known = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    tensors = {name: about for name, about in known.items() if isinstance(about, TensorStorageMetadata)}
    found = {name: torch.empty(about.size, dtype=about.properties.dtype) for name, about in tensors.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)  # each process reads for itself
        load_shards(dict[str, Any](found), storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    return found


def all_in(folder: Path) -> list[Path]:
    """The checkpoints of a folder, newest (most steps) first."""
    found = (path for path in folder.glob("step-*") if path.is_dir())
    return sorted(found, key=lambda path: (len(path.name.removesuffix("-end")), path.name), reverse=True)  # seven digits, or more


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
    if path.exists() and not path.is_file():
        raise UserError(f"{path.name} is no file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
