"""What every format gives: records, and what is wrong with them, by file and line. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs

from ibllm.plugin import UserError, nearest
from ibllm_files.config import SPLITS
from ibllm_files.sources import FileSource, Source

COLUMNS = ("image", "caption", "language", "split", "question", "answer", "written_by")


@attrs.frozen(kw_only=True)
class Record:
    """One image with one caption, or only one of them; `place` is ``file:line``. A machine's caption says what wrote it in `written_by`."""

    place: str
    image: Source | None = None
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


def text_of(path: Path) -> str:
    """A whole text file. Raises `UserError` with the line where it is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def record_of(table: Path, place: str, cells: Mapping[str, str], problems: Problems, held: Sequence[str]) -> Record | None:
    """The record of a table's row; None, and a problem, where it is none."""
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
        return Record(place=place, image=FileSource(table.parent / values["image"]) if "image" in held else None, **kept)
    return None
