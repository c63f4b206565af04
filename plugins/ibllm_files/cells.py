"""A table's rows → records: which column is which, and what its cells may hold. Torch-free."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from ibllm.plugin import UserError, nearest
from ibllm_files.config import SPLITS
from ibllm_files.records import Reading, Record, place_of
from ibllm_files.sources import Source
from ibllm_files.trees import Refused, Tree

COLUMNS = ("image", "caption", "language", "split", "question", "answer", "written_by")
#: What other programs call a column, taken where it has no name of ours and none was given.
ALIASES: Mapping[str, Sequence[str]] = {"image": ("file_name",), "caption": ("text",)}
#: What other programs call a split.
SPLIT_WORDS: Mapping[str, str] = {
    **{name: name for name in SPLITS},
    **{"training": "train", "restval": "train", "val": "validation", "valid": "validation", "dev": "validation", "eval": "validation"},
}
#: Characters that show nothing: blanks, controls, and what Unicode lets a renderer leave out (Default_Ignorable_Code_Point), with the empty Braille cell.
_INVISIBLE = re.compile(
    "[\\s\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]*"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_FETCH = """files reads what is on disk. img2dataset (pip install img2dataset) fetches the images of such a table and writes WebDataset shards: \
img2dataset --url_list TABLE --url_col image --caption_col caption --output_format webdataset --output_folder shards; use = "webdataset" reads those"""


def hint(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'image'?``, or which are known where none is near."""
    guess = nearest(word, known)
    return f"; did you mean {guess!r}?" if guess else f"; known are {', '.join(known)}"


@attrs.define
class Table:
    """A table's rows on their way to records.

    Attributes:
        name: of the file, for messages.
        tree: where its images are.
        line: what a row is counted in: nothing for lines of the file, ``row``, ``annotation``.
        strict: a column that looks like a misspelt one is refused, unless the recipe names columns.
        split: of rows that name none.
    """

    name: str
    tree: Tree
    reading: Reading
    line: str = ""
    strict: bool = True
    split: str = ""
    _known: dict[tuple[str, ...], Mapping[str, str]] = attrs.field(factory=dict, init=False)
    _found: dict[Any, Source] = attrs.field(factory=dict, init=False)

    def header(self, number: int, names: Sequence[str], whole: bool = True) -> Mapping[str, str]:
        """Their column → ours, for the columns that are used.

        Args:
            number: of the line, or of the row.
            whole: a row has no other columns; otherwise one may be missing, if none is there that might be it.

        Raises:
            UserError: a column is missing, unknown or there twice.
        """
        known = tuple(names)
        if known not in self._known:
            self._known[known] = self._columns(place_of(self.name, number, self.line), known, whole)
        return self._known[known]

    def _columns(self, place: str, names: tuple[str, ...], whole: bool) -> Mapping[str, str]:
        said = {ours: name for ours in COLUMNS if (name := getattr(self.reading.config.columns, ours))}
        guessed = not self.strict or bool(said)
        found: dict[str, str] = {}
        for ours in COLUMNS:
            theirs = _called(said.get(ours, ours), names, place)
            for name in ALIASES.get(ours, ()) if theirs is None and ours not in said and guessed else ():
                theirs = theirs or _called(name, names, place)
            if theirs is not None:
                found.setdefault(theirs, ours)
            elif ours in said:
                raise UserError(f"{place}: columns.{ours} = {said[ours]!r}: the table has no such column{hint(said[ours], names)}")
        unused = [name for name in names if name not in found]
        for name in () if guessed else (name for name in unused if "url" not in name.lower()):
            if guess := nearest(name.lower(), [ours for ours in COLUMNS if ours not in found.values()]):
                raise UserError(f"{place}: unknown column {name!r}; did you mean {guess!r}?")
        for ours in self.reading.held:
            if ours not in found.values() and (whole or unused):
                raise UserError(f"{place}: {self._missing(ours, unused)}")
        for name in unused:
            self.reading.passed.once("column that is not used", "columns that are not used", name)
        return found

    def _missing(self, ours: str, unused: Sequence[str]) -> str:
        said = f"expected one column {ours!r} in the header, found 0"
        if not unused:
            return said
        urls = [name for name in unused if "url" in name.lower()]
        if ours == "image" and urls:
            return f"{said}; {urls[0]!r} has URLs: {_FETCH}"
        named = ", ".join(repr(name) for name in unused[:8]) + (", …" if len(unused) > 8 else "")
        return f"{said}, but {named}; columns = {{ {ours} = {_quoted(unused[0])} }} would name one"

    def records(self, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[Record]:
        """The records of rows (number, their column → cell); what is none goes to the problems."""
        for number, cells in rows:
            columns = self.header(number, tuple(cells))
            yield from self.record(number, {ours: cells[theirs] for theirs, ours in columns.items()})

    def record(self, number: int, cells: Mapping[str, Any]) -> Iterator[Record]:
        """The records of one row: our column → cell; as many as its captions."""
        place = place_of(self.name, number, self.line)
        try:
            captions = _texts("caption", cells.get("caption")) if "caption" in self.reading.held else [""]
            image = self._image(cells.get("image"), place) if "image" in self.reading.held else None
            values = {name: _one(name, cells[name]) for name in COLUMNS[3:] if name in cells}
            codes = _texts("language", cells.get("language"), split=False) or [""]
            if len(codes) not in (1, len(captions)):
                raise Refused(f"{len(codes)} languages for {len(captions)} captions")
            values["split"] = self._split(values.get("split", ""))
            if bool(values.get("question")) != bool(values.get("answer")):
                raise Refused("a question and its answer come together; one of them is empty")
            if "caption" in self.reading.held and not (captions and all(captions)):
                raise Refused("the caption is empty" if image is None else f"the caption of {_short(cells['image'], image)} is empty")
        except Refused as refused:
            self.reading.problems.add(place, str(refused))
            return
        for caption, code in zip(captions, codes if len(codes) > 1 else codes * len(captions), strict=True):
            yield Record(file=self.name, line=number, what=self.line, image=image, caption=caption, language=code, **values)

    def _image(self, cell: Any, place: str) -> Source:
        if isinstance(cell, Source):
            return cell
        if cell in self._found:
            return self._found[cell]
        name = _text("image", cell).strip()
        if not name:
            raise Refused("the image is missing")
        if _URL.match(name):
            if name.lower().startswith("file://"):
                raise Refused(f"the image {name} is a URL: expected a path, as it is without file://")
            raise UserError(f"{place}: the image {name} is a URL; {_FETCH}")
        self._found[cell] = found = self.tree.find(name)
        return found

    def _split(self, word: str) -> str:
        if not word:
            return self.split
        if word.lower() not in SPLIT_WORDS:
            raise Refused(f"unknown split {word!r}{hint(word, SPLITS)}")
        return SPLIT_WORDS[word.lower()]


def _called(name: str, names: Sequence[str], place: str) -> str | None:
    """The column of a name, as it is written or but for case; None where there is none. Raises `UserError` where there are two."""
    same = [one for one in names if one == name] or [one for one in names if one.strip().lower() == name.strip().lower()]
    if len(same) > 1:
        raise UserError(f"{place}: a column stands twice in the header: {name!r}")
    return same[0] if same else None


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _short(cell: Any, image: Source) -> str:
    return cell.strip() if isinstance(cell, str) else image.name


def _text(name: str, cell: Any) -> str:
    """A cell that is a text or nothing."""
    if cell is None:
        return ""
    if not isinstance(cell, str):
        raise Refused(f"{name} must be a text")
    if not cell.isascii() and (half := _SURROGATE.search(cell)):
        raise Refused(f"the {name} has half of a surrogate pair, {half.group().encode('unicode_escape').decode()}, which is no character")
    return cell


def _one(name: str, cell: Any) -> str:
    return visible(_text(name, cell))


def _texts(name: str, cell: Any, split: bool = True) -> list[str]:
    """A cell of one text or of a list of them; a table of text writes a list as Python or JSON does."""
    if isinstance(cell, str) and split and cell.strip().startswith("[") and cell.strip().endswith("]"):
        try:
            inside = ast.literal_eval(cell.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            inside = None
        if isinstance(inside, list) and inside and all(isinstance(one, str) for one in inside):
            cell = inside
    if isinstance(cell, list | tuple):
        return [_one(name, one) for one in cell]
    return [_one(name, cell)] if cell is not None else [""]


def visible(text: str) -> str:
    """A text with single blanks for white space; empty where nothing of it can be seen."""
    plain = text.isascii() and text.isprintable()
    return "" if not plain and _INVISIBLE.fullmatch(text) else " ".join(text.split())
