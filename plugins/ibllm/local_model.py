"""Where a pretrained model lies on this machine, whose it is, and how it is taken over. Torch-free."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import attrs

from ibllm_core.host.options import Config, OptionError, option

#: Files of weights; what is pickled is never read.
WEIGHTS = "*.safetensors"
_LICENCE = re.compile(r"^license:[ \t]*['\"]?([^'\"\n]+?)['\"]?[ \t]*$", re.MULTILINE)


@attrs.frozen(kw_only=True, slots=False)
class AdaptingConfig(Config):
    """Options that all parts with a pretrained model in them have: what of it is trained, and how its weights are kept. Without slots, so that a part's
    options may have another base beside it.
    """

    mode: str = option(
        "frozen",
        help="what of the model is trained: nothing (frozen), all of it (tuned), or low-rank adapters in it (lora); what is ours beside it always is",
        choices=("frozen", "tuned", "lora"),
    )
    rank: int = option(8, help="r of the adapters W + alpha/r · B A (Hu et al. 2022, section 4.1); for lora", ge=1)
    alpha: float = option(16.0, help="scale of the adapters; for lora", gt=0)
    targets: tuple[str, ...] = option(
        (), help="names of the layers that get adapters; those usual for the architecture, or else all linear ones, when left out; for lora"
    )
    dtype: str = option(
        "float32",
        help="type in which the model's weights are kept where they are not trained, and in which it then computes; adapters are float32 all the same",
        choices=("float32", "bfloat16", "float16"),
    )

    def __attrs_post_init__(self) -> None:
        if self.mode == "tuned" and self.dtype != "float32":
            raise OptionError(
                "dtype",
                self.dtype,
                'float32 where mode = "tuned", for small steps are lost in it; compute.precision = "bf16" computes in bfloat16',
            )


def find_folder(model: str, needed: Sequence[str] = ("config.json",)) -> Path:
    """The folder that holds a model's files `needed`: `model` itself, or the one in the package `model`.

    Raises `OptionError` where there is none.
    """
    path = Path(model) if Path(model).is_dir() else _packaged(model, needed)
    missing = [name for name in needed if not (path / name).is_file()]
    if missing:
        raise OptionError("model", model, f"a Hugging Face model's folder; it lacks {' and '.join(missing)}")
    return path


def model_origin(model: str, needed: Sequence[str] = ("config.json",)) -> Mapping[str, str]:
    """What a run records of a pretrained model: ``model``, ``licence`` (empty where nobody says it) and ``sha256`` of its weights.

    Nothing where the model is not there any more. The hash is a file's own, as hubs show it; of several files it is that of the lines ``NAME HASH``.
    """
    try:
        folder = find_folder(model, needed)
    except OptionError:
        return {}
    stamps = tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.glob(WEIGHTS)))
    return {"model": model, "licence": _licence(model, folder), "sha256": _hash(stamps)}


@functools.cache
def _hash(stamps: tuple[tuple[Path, int, int], ...]) -> str:
    """Read once a process while the files stay as they are: they may have many gigabytes."""
    hashes = {}
    for path, *_ in stamps:
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    if len(hashes) <= 1:
        return "".join(hashes.values())
    return hashlib.sha256("".join(f"{name} {one}\n" for name, one in hashes.items()).encode()).hexdigest()


def _licence(model: str, folder: Path) -> str:
    """As the folder's card says it (README.md), else the package's metadata, else the name of a file that holds it."""
    card = folder / "README.md"
    header = card.read_text(encoding="utf-8", errors="replace").split("---")[1:2] if card.is_file() else []
    if header and (said := _LICENCE.search(header[0])):
        return said[1]
    if not Path(model).is_dir():
        about = metadata.metadata(model)
        return next((about[key] for key in ("License-Expression", "License") if key in about), "")
    return next((f"as in {path.name}" for path in sorted(folder.glob("LICEN[CS]E*"))), "")


def _packaged(package: str, needed: Sequence[str]) -> Path:
    try:
        files = metadata.files(package) or ()
    except (metadata.PackageNotFoundError, ValueError):
        raise OptionError("model", package, "a folder or an installed package; there is neither of this name") from None
    # A model's folder may have parts with a config.json of their own; they lack the other files.
    folders = [file.parent for file in files if file.name == needed[-1] and all(file.parent / name in files for name in needed)]
    if len(folders) != 1:
        raise OptionError("model", package, f"a package that carries one Hugging Face model; it carries {len(folders) or 'none'}")
    return Path(str(metadata.distribution(package).locate_file(folders[0])))
