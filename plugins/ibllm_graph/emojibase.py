"""What emojibase-data says of emoji: their groups, subgroups and tags, and their names in many languages. Torch-free."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ibllm.plugin import UserError
from ibllm_graph.statements import Statement

#: Bytes of the largest file that is read out of the archive; the largest there is has 2 million.
LARGEST = 1 << 27


def read_emojibase(path: Path, languages: Sequence[str]) -> Iterator[Statement]:
    """An emoji's group, subgroup and tags; an emoji is called by its English name, and has its names in `languages`.

    A tag is an entity of its name; a group and a subgroup are no words of captions: ``group food-drink``. Archives without ``en/data.json`` have no
    subgroups.

    Raises:
        UserError: the archive is damaged, or lacks a language.
    """
    wanted = ["en/data.json", "en/compact.json", "meta/groups.json", *(f"{code}/compact.json" for code in languages)]
    found = _members(path, wanted)
    if missing := [name for name in wanted[3:] if name not in found]:
        raise UserError(f"{path}: there is no {', '.join(missing)}: expected the archive of the package emojibase-data")
    groups = found.get("meta/groups.json", {})
    rows = found.get("en/data.json") or found.get("en/compact.json") or []
    english = {row["hexcode"]: row["label"] for row in rows if "group" in row}
    for code in languages:
        for row in found[f"{code}/compact.json"]:
            if row["hexcode"] in english:
                yield Statement(english[row["hexcode"]], "name", row["label"], literal=True, language=code)

    def called(kind: str, number: int) -> str:
        return f"{kind.removesuffix('s')} {groups.get(kind, {}).get(str(number), number)}"

    for row in sorted((row for row in rows if "group" in row), key=lambda row: row.get("order", 0)):
        yield Statement(row["label"], "group", called("groups", row["group"]))
        if "subgroup" in row:
            yield Statement(row["label"], "subgroup", called("subgroups", row["subgroup"]))
            yield Statement(called("subgroups", row["subgroup"]), "group", called("groups", row["group"]))
        for tag in row.get("tags", ()):
            yield Statement(row["label"], "tag", tag)


def _members(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Name → what the JSON file ``package/NAME`` holds, of those that are there."""
    wanted, found = {f"package/{name}": name for name in names}, dict[str, Any]()
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                if member.name in wanted and member.isfile():
                    if member.size > LARGEST:
                        raise UserError(f"{path}: {member.name} has {member.size:,} bytes: expected at most {LARGEST:,}")
                    file = archive.extractfile(member)
                    assert file is not None
                    found[wanted[member.name]] = json.load(file)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} cannot be read ({error}): expected the archive that `npm pack emojibase-data` writes") from None
    return found
