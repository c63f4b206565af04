"""Rows from a table or a folder, and what is wrong with them, by file and line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from ibllm.plugin import UserError, nearest
from ibllm_files.config import SPLITS

COLUMNS = ("image", "caption", "language", "split", "question", "answer", "written_by")
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})


@attrs.frozen(kw_only=True)
class Row:
    """One image with one caption, or only one of them; `place` is ``file:line``. A machine's caption says what wrote it in `written_by`."""

    place: str
    image: Path | None = None
    caption: str = ""
    language: str = ""
    split: str = ""
    question: str = ""
    answer: str = ""
    written_by: str = ""


def hint(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'image'?``, or which are known where none is near."""
    guess = nearest(word, known)
    return f"; did you mean {guess!r}?" if guess else f"; known are {', '.join(known)}"


class Problems:
    """Collects mistakes, so that all are told at once."""

    SHOWN = 20

    def __init__(self, path: Path) -> None:
        self.path, self.found = path, list[str]()

    def add(self, place: object, message: str) -> None:
        self.found.append(f"{place}: {message}")

    def raise_any(self) -> None:
        """Raises `UserError` if there were any."""
        if len(self.found) == 1:
            raise UserError(self.found[0])
        if self.found:
            more = [f"… and {len(self.found) - self.SHOWN} more"] if len(self.found) > self.SHOWN else []
            raise UserError("\n  ".join([f"{self.path}: {len(self.found)} problems", *self.found[: self.SHOWN], *more]))


def read_rows(path: Path, problems: Problems, held: Sequence[str] = ("image", "caption")) -> list[Row]:
    """The rows of a table or a folder that are right; the others go to `problems`. Raises `UserError` where nothing can be read.

    Of image and caption only what is `held` is asked for and kept.
    """
    if path.is_dir():
        return list(_folder(path, problems, held))
    if not path.exists():
        raise UserError(f"files: there is no file or folder {path}")
    if path.suffix.lower() == ".txt" and held == ("caption",):
        return list(_lines(path))
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: expected a table ending in {', '.join(readers)}, or a folder")
    rows = []
    for line, cells in readers[path.suffix.lower()](path, problems, held):
        row = _row(path, f"{path}:{line}", cells, problems, held)
        if row is not None:
            rows.append(row)
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _csv(path: Path, problems: Problems, held: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    reader = csv.reader(_text(path).splitlines(keepends=True), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    header: list[str] = []
    line = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise UserError(f"{path}:{line}: not a row of a table ({error})") from None
        if cells and not header:
            header = [cell.strip().lower() for cell in cells]
            _check_columns(f"{path}:{line}", header, held)
        elif cells and len(cells) != len(header):
            problems.add(f"{path}:{line}", f"{len(cells)} cells where the header has {len(header)}")
        elif cells:
            yield line, dict(zip(header, cells, strict=True))
        line = reader.line_num + 1
    if not header:
        raise UserError(f"{path}:1: the table is empty; expected a header line with {' and '.join(held)}")


def _check_columns(place: str, header: list[str], held: Sequence[str]) -> None:
    for name in header:
        if name not in COLUMNS:
            raise UserError(f"{place}: unknown column {name!r}{hint(name, COLUMNS)}")
    for name in held:
        if header.count(name) != 1:
            raise UserError(f"{place}: expected one column {name!r} in the header, found {header.count(name)}")
    if len(set(header)) < len(header):
        raise UserError(f"{place}: a column stands twice in the header")


def _jsonl(path: Path, problems: Problems, held: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    for line, text in enumerate(_text(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            cells = json.loads(text)
        except json.JSONDecodeError as error:
            problems.add(f"{path}:{line}", f"not JSON ({error.msg} at column {error.colno})")
            continue
        if not isinstance(cells, dict):
            problems.add(f"{path}:{line}", f"expected an object with {' and '.join(held)}")
            continue
        wrong = [key for key, value in cells.items() if key not in COLUMNS or not isinstance(value, str)]
        for key in wrong:
            problems.add(f"{path}:{line}", f"{key} must be a text" if key in COLUMNS else f"unknown key {key!r}{hint(key, COLUMNS)}")
        if not wrong:
            yield line, cells


def _row(table: Path, place: str, cells: Mapping[str, str], problems: Problems, held: Sequence[str]) -> Row | None:
    values = {name: " ".join(value.split()) if name != "image" else value.strip() for name, value in cells.items()}
    if "image" in held and not values.get("image"):
        problems.add(place, "the image is missing")
    elif "caption" in held and not values.get("caption"):
        problems.add(place, f"the caption of {values['image']} is empty" if "image" in held else "the caption is empty")
    elif (values.get("split") or "train") not in SPLITS:
        problems.add(place, f"unknown split {values['split']!r}{hint(values['split'], SPLITS)}")
    elif bool(values.get("question")) != bool(values.get("answer")):
        problems.add(place, "a question and its answer come together; one of them is empty")
    else:
        kept = {name: value for name, value in values.items() if name != "image" and (name != "caption" or "caption" in held)}
        return Row(place=place, image=table.parent / values["image"] if "image" in held else None, **kept)
    return None


def _lines(path: Path) -> Iterator[Row]:
    """The captions of a text file, one a line; empty lines are passed over."""
    for line, text in enumerate(_text(path).splitlines(), 1):
        if text.strip():
            yield Row(place=f"{path}:{line}", caption=" ".join(text.split()))


def _folder(folder: Path, problems: Problems, held: Sequence[str]) -> Iterator[Row]:
    if held == ("caption",):
        texts = sorted(p for p in folder.rglob("*") if p.suffix.lower() == ".txt" and p.is_file())
        if not texts:
            raise UserError(f"{folder}: no text in this folder; expected files ending in .txt")
        for text in texts:
            yield from _lines(text)
        return
    images = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGES and p.is_file())
    if not images:
        raise UserError(f"{folder}: no image in this folder; expected files ending in {', '.join(sorted(IMAGES))}")
    for image in images:
        if held == ("image",):
            yield Row(place=str(image), image=image)
            continue
        sidecar = image.with_suffix(".txt")
        if not sidecar.is_file():
            problems.add(image, f"its caption is missing: expected the file {sidecar.name} beside it")
            continue
        captions = list(_lines(sidecar))
        if not captions:
            problems.add(f"{sidecar}:1", "the caption is empty")
        yield from (attrs.evolve(row, image=image) for row in captions)
