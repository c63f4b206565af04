"""Files that somebody made to do harm: they are refused with a reason, in bounded memory, and nothing in them is ever executed."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ibllm_cli.main import main

from ibllm_core.errors import UserError
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.runs.model_folder import read_weights
from ibllm_core.training import checkpoints
from ibllm_core.training.checkpoints import Checkpoint

from .conftest import TINY

#: Bytes of memory that refusing may take: a JSON file of the largest size that is read takes about twenty times its size.
BOUND = 512 << 20
STATE = {"global_step": 1, "records": [], "seconds": {}, "stage": 0, "step": 1}


def header(tensors: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file: eight bytes of length, a JSON header, data."""
    text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def one(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, Any]:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


class Executed:
    """What a pickle would do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.path),)


HEADERS = {
    "length-2^63": header({}, length=2**63),
    "length-2^64-1": header({}, length=2**64 - 1),
    "length-beyond-the-file": header(one(), b"\0" * 4, length=10**6),
    "shape-2^63": header(one(shape=(2**63,), offsets=(0, 4)), b"\0" * 4),
    "shape-whose-product-overflows": header(one(shape=(2**32, 2**32, 2**32)), b"\0" * 4),
    "negative-shape": header(one(shape=(-1,)), b"\0" * 4),
    "offsets-2^63": header(one(offsets=(0, 2**63)), b"\0" * 4),
    "offsets-backwards": header(one(offsets=(4, 0)), b"\0" * 4),
    "overlapping": header(
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}},
        b"\0" * 12,
    ),
    "a-hole": header(one(offsets=(4, 8)), b"\0" * 8),
    "unknown-dtype": header(one(dtype="F31"), b"\0" * 4),
    "dtype-is-a-number": header(one(dtype=3), b"\0" * 4),
    "no-json": header(b"\xff{"),
    "nested": header(b"[" * 100_000),
    "a-list": header([]),
    "empty": b"",
    "short": b"\0" * 7,
    "pickle": pickle.dumps({"w": 1}),
}


def grown(before: int) -> int:
    """Bytes by which the most that this process ever held has grown (it is told in KiB)."""
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10


def held() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_weights_are_refused(tmp_path: Path, name: str) -> None:
    path, before = tmp_path / "weights.safetensors", held()
    path.write_bytes(HEADERS[name])
    with pytest.raises(UserError, match=r"weights.safetensors is damaged"):
        read_weights(path)
    folder = checkpoints.save(tmp_path / "checkpoints" / "step-0000001", Checkpoint(STATE, {"weights": {"w": torch.ones(1)}}))
    replace(folder, "weights.safetensors", HEADERS[name])
    found, passed = checkpoints.newest(folder.parent)
    assert found is None
    assert "cannot be read" in passed[folder.name]
    assert grown(before) < BOUND


def replace(folder: Path, name: str, content: bytes) -> None:
    """Another content, and hashes that agree with it: whoever means harm writes these too."""
    (folder / name).write_bytes(content)
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.name != "hashes.json"}
    (folder / "hashes.json").write_text(json.dumps(hashes))


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    folder = checkpoints.save(tmp_path / "step-0000001", Checkpoint(STATE, {"weights": {"w": torch.ones(1)}}))
    for content in (pickle.dumps(Executed(tmp_path / "executed")), pickle.dumps(Executed(tmp_path / "executed"), 0)):
        for name in ("weights.safetensors", "state.json", "optimizer-model.safetensors"):
            replace(folder, name, content)
            assert checkpoints.newest(tmp_path)[0] is None
    torch.save({"w": Executed(tmp_path / "executed")}, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="is damaged"):
        read_weights(tmp_path / "weights.safetensors")
    assert not (tmp_path / "executed").exists()


#: Texts that are much when they are read.
BOMBS = {
    "deep": b"[" * 1_000_000,
    "deep-and-closed": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "wide": b"[" + b"[]," * 500_000 + b"[]]",
    "huge": b" " * (1 << 25) + b"{}",
    "a-number-of-a-million-digits": b"9" * 1_000_000,
    "a-key-of-it": b'{"global_step": ' + b"9" * 10_000 + b"}",
    "not-text": bytes(range(128, 256)) * 10,
    "nothing": b"",
}


@pytest.mark.parametrize("name", BOMBS)
def test_json_bombs_are_refused(tmp_path: Path, name: str) -> None:
    before = held()
    folder = checkpoints.save(tmp_path / "step-0000001", Checkpoint(STATE, {"weights": {"w": torch.ones(1)}}))
    for file in ("state.json", "hashes.json"):
        kept = (folder / file).read_bytes()
        (folder / file).write_bytes(BOMBS[name])
        if file == "state.json":
            replace(folder, file, BOMBS[name])
        found, passed = checkpoints.newest(tmp_path)
        assert found is None and passed
        (folder / file).write_bytes(kept)
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    (run.path / "run.json").write_bytes(BOMBS[name])
    with pytest.raises(UserError, match=r"run.json is damaged"):
        run.info()
    assert grown(before) < BOUND


def test_hashes_name_files_of_their_checkpoint_alone(tmp_path: Path) -> None:
    folder = checkpoints.save(tmp_path / "step-0000001", Checkpoint(STATE, {"weights": {"w": torch.ones(1)}}))
    hashes = json.loads((folder / "hashes.json").read_text())
    for name in ("../../../etc/passwd", "/dev/zero", "weights/../../x"):
        (folder / "hashes.json").write_text(json.dumps(hashes | {name: "0"}))
        assert checkpoints.newest(tmp_path) == (None, {folder.name: "hashes.json does not name the files of a checkpoint"})
    (folder / "hashes.json").write_text(json.dumps(hashes))
    (folder / "weights.safetensors").unlink()
    (folder / "weights.safetensors").symlink_to("/dev/zero")
    assert checkpoints.newest(tmp_path) == (None, {folder.name: "weights.safetensors is no file"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"format = 1\nx = " + b"[" * 5000, "not TOML"),
        (b"format = 1\n" + b"a." * 3000 + b"b = 1", "deep"),
        (b"format = 1\nx = " + b"9" * 5000, "not TOML"),
        (b"format = 1\nextends = '/dev/zero'", "is no file"),
        (b'format = 1\nextends = "a\\u0000b"', "wrong type"),
        (b"#" * (1 << 23), "larger than"),
    ],
)
def test_hostile_recipes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str) -> None:
    (tmp_path / "r.toml").write_bytes(content)
    assert main(["check", str(tmp_path / "r.toml")]) == 2
    assert said in capsys.readouterr().err
    assert main(["check", str(TINY), "--set", f"name={'[' * 5000}"]) in (0, 2)
