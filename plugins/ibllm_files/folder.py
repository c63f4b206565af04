"""Folders of images, each with its captions in a text file beside it. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from ibllm.plugin import UserError
from ibllm_files.records import Problems, Record, text_of
from ibllm_files.sources import FileSource

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})


def text_lines(path: Path) -> Iterator[Record]:
    """The captions of a text file, one a line; empty lines are passed over."""
    for line, text in enumerate(text_of(path).splitlines(), 1):
        if text.strip():
            yield Record(place=f"{path}:{line}", caption=" ".join(text.split()))


def folder_records(folder: Path, problems: Problems, held: Sequence[str]) -> Iterator[Record]:
    """Every image of a folder with each of its captions."""
    if held == ("caption",):
        texts = sorted(p for p in folder.rglob("*") if p.suffix.lower() == ".txt" and p.is_file())
        if not texts:
            raise UserError(f"{folder}: no text in this folder; expected files ending in .txt")
        for text in texts:
            yield from text_lines(text)
        return
    images = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGES and p.is_file())
    if not images:
        raise UserError(f"{folder}: no image in this folder; expected files ending in {', '.join(sorted(IMAGES))}")
    for image in images:
        if held == ("image",):
            yield Record(place=str(image), image=FileSource(image))
            continue
        sidecar = image.with_suffix(".txt")
        if not sidecar.is_file():
            problems.add(image, f"its caption is missing: expected the file {sidecar.name} beside it")
            continue
        captions = list(text_lines(sidecar))
        if not captions:
            problems.add(f"{sidecar}:1", "the caption is empty")
        yield from (attrs.evolve(row, image=FileSource(image)) for row in captions)
