"""Where a pretrained model lies on this machine. Torch-free."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from ibllm.plugin import OptionError

NEEDED = ("config.json", "tokenizer.json")


def find_folder(model: str) -> Path:
    """The folder that holds a model's configuration and tokenizer: `model` itself, or the one in the package `model`.

    Raises `OptionError` where there is none.
    """
    path = Path(model) if Path(model).is_dir() else _packaged(model)
    missing = [name for name in NEEDED if not (path / name).is_file()]
    if missing:
        raise OptionError("model", model, f"a Hugging Face model's folder; it lacks {' and '.join(missing)}")
    return path


def _packaged(package: str) -> Path:
    try:
        files = metadata.files(package) or ()
    except (metadata.PackageNotFoundError, ValueError):
        raise OptionError("model", package, "a folder or an installed package; there is neither of this name") from None
    # A model's folder may have parts with a config.json of their own; the tokenizer is beside the model's.
    folders = [file.parent for file in files if file.name == "tokenizer.json" and file.parent / "config.json" in files]
    if len(folders) != 1:
        raise OptionError("model", package, f"a package that carries one Hugging Face model; it carries {len(folders) or 'none'}")
    return Path(str(metadata.distribution(package).locate_file(folders[0])))
