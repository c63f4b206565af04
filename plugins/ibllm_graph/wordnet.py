"""WordNet's own files (``data.noun`` and its siblings; the manual page wndb(5WN)). Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ibllm.plugin import UserError
from ibllm_graph.statements import Statement, text_of

#: Pointer → the relation.
POINTERS = {"@": "hypernym", "@i": "instance hypernym", "%p": "part", "%m": "member", "%s": "substance", "=": "attribute", "*": "entails"}
_FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}


def read_wordnet(path: Path, languages: Sequence[str]) -> Iterator[Statement]:
    """What is said of sets of synonyms that are among the files read; each is named by its words.

    Args:
        path: one of the files, or the folder that has them.

    Raises:
        UserError: there is none of these files, or a line is none of its form.
    """
    files = [path] if path.is_file() else [file for name in _FILES.values() if (file := path / f"data.{name}").is_file()]
    if not files:
        raise UserError(f"{path} has no data.noun: expected WordNet's folder `dict`, or one of the files data.noun, .verb, .adj, .adv")
    read = {kind for kind, name in _FILES.items() if any(file.suffix == f".{name}" for file in files)} or {"n"}
    for file in files:
        for number, line in enumerate(text_of(file).splitlines(), 1):
            if line.strip() and not line.startswith("  "):  # the licence stands before, two blanks before each of its lines
                try:
                    yield from _synset(line, read)
                except (ValueError, IndexError):
                    raise UserError(f"{file}:{number}: this is no line of WordNet's form: expected offset, kind, words, pointers") from None


def _synset(line: str, read: set[str]) -> Iterator[Statement]:
    cells = line.partition("|")[0].split()
    offset, kind, count = int(cells[0]), cells[2].replace("s", "a"), int(cells[3], 16)
    words = cells[4 : 4 + 2 * count : 2]
    rest, key = cells[4 + 2 * count :], f"{kind}{offset:08}"
    for word in words:
        yield Statement(key, "name", word.partition("(")[0].replace("_", " "), literal=True)
    for n in range(int(rest[0])):
        pointer, target, of = rest[1 + 4 * n : 4 + 4 * n]
        if pointer in POINTERS and of.replace("s", "a") in read:
            yield Statement(key, POINTERS[pointer], f"{of.replace('s', 'a')}{int(target):08}")
