"""Images that a command is given: files, folders, lists of files. Torch-free to import.

Shapes: b images, h w pixels, c channels.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt

from ibllm.cropping import cut_off
from ibllm.pictures import SUFFIXES
from ibllm_core.errors import UserError

from .common import in_chunks, note

if TYPE_CHECKING:
    from PIL.Image import Image

    from ibllm.trained import Trained

Pixels = npt.NDArray[np.uint8]


@attrs.frozen
class Source:
    """Where an image comes from: `path`, or `data` where it came through standard input. One that was not `named` was found in a folder."""

    path: Path
    named: bool = True
    data: bytes | None = None


def sources(paths: Iterable[Path], file: Path | None = None) -> list[Source]:
    """The images of a command: its arguments, folders (at any depth) and lists of files, in the order in which they are given, each once.

    Args:
        paths: files and folders; ``-`` is standard input: an image, or paths, one a line.
        file: a list of paths, one a line.

    Raises:
        UserError: a file that is not there, or no image at all.
    """
    found: list[Source] = []
    for path in [*paths, *([] if file is None else _listed(file.read_bytes() if str(file) != "-" else sys.stdin.buffer.read(), file))]:
        if str(path) == "-":
            raw = sys.stdin.buffer.read()
            found += [Source(Path("-"), data=raw)] if _is_image(raw) else [Source(one) for one in _listed(raw, path)]
        elif path.is_dir():
            found += [Source(one, named=False) for one in _below(path)]
        else:
            found.append(Source(path))
    for source in found:
        if source.named and source.data is None and not source.path.is_file():
            raise UserError(
                f"there is no image {source.path}" if not source.path.is_dir() else f"{source.path} is a folder; name it by itself"
            )
    if not found:
        raise UserError("no image: give files or folders as arguments, a list of them by --from FILE, or - for standard input")
    once = list({source.path: source for source in found}.values())
    if again := len(found) - len(once):
        note(f"{again} {'image is' if again == 1 else 'images are'} given more than once, and taken once")
    return once


def _listed(raw: bytes, file: Path) -> list[Path]:
    try:
        return [Path(line.strip()) for line in raw.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise UserError(f"{file}: neither an image that can be read nor a list of paths, one a line, in UTF-8") from None


def _is_image(raw: bytes) -> bool:
    """False for what is text: an image's first bytes are none."""
    try:
        raw[:4096].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return error.start < len(raw[:4096]) - 4  # not merely a character that is cut
    return b"\0" in raw[:4096]


def _below(folder: Path) -> Iterator[Path]:
    """The images below a folder, by name; what is hidden and what is no image is passed over, counted and told."""
    hidden = others = taken = linked = 0
    for place, folders, files in os.walk(folder):
        hidden += sum(name.startswith(".") for name in (*folders, *files))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        linked += sum(Path(place, name).is_symlink() for name in folders)
        for name in sorted(name for name in files if not name.startswith(".")):
            if Path(name).suffix.lower() in SUFFIXES:
                taken += 1
                yield Path(place, name)
            else:
                others += 1
    passed = [
        f"{number} {what}" for number, what in ((hidden, "hidden"), (linked, "linked folders"), (others, "that are no images")) if number
    ]
    if passed:
        note(f"{folder}: {taken} images; passed over: {', '.join(passed)}")
    elif not taken:
        note(f"{folder}: no image in this folder")


def opened(source: Source) -> Image:
    """The image of a source, decoded. Raises `UserError`, with the reason, for one that cannot be read."""
    from ibllm import pictures

    return pictures.opened(source.path if source.data is None else source.data, str(source.path))


def read(model: Trained, found: Sequence[Source], doing: str) -> Iterator[tuple[list[Source], Pixels]]:
    """Chunks of images as the model reads them: sources and (b h w c) uint8, with the progress told.

    One that cannot be read raises `UserError` where it was named; in a folder it is passed over, and told. At the end it is told how many were read where
    some were not, and of how many much is cut off.
    """
    names, shares = list[str](), list[float]()
    for chunk in in_chunks(found, doing):
        kept, pixels = [], []
        for source in chunk:
            try:
                pixels.append(model.pixels([opened(source)], outside=shares)[0])
            except UserError as error:
                if source.named:
                    raise
                note(f"{error}; it is passed over")
            else:
                kept.append(source)
                names.append(str(source.path))
        if kept:
            yield kept, np.stack(pixels)
    if len(names) < len(found):
        note(f"{len(names)} of {len(found)} images were read; {len(found) - len(names)} could not be read and are passed over")
    if said := cut_off(shares, names):
        note(said)
