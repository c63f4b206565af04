"""Makes the fixture in tests/emoji/archives out of the archives that `npm pack` writes: ``python tests/emoji/make_archives.py FOLDER``.

A few concepts of all four artists and their names in a few languages, in archives of the same form, with the packages' licences beside them.
"""

from __future__ import annotations

import gzip
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

from ibllm_emoji.styles.archives import NAMES, PACKAGES, find
from ibllm_emoji.styles.concepts import plain

HERE = Path(__file__).parent / "archives"
LANGUAGES = ("en", "zh", "de", "hi", "ja", "th")
#: Hearts, squares and circles of some colours: their words come several times, so that whole concepts can be held out. And a dog's face,
#: and "UP! button" and a woman cook, whose code points need a variation selector or a joiner.
CODES = ("2764", "1f499", "1f49a", "1f7e5", "1f7e6", "1f7e9", "1f534", "1f535", "1f7e2", "1f436", "1f199", "1f469-200d-1f373")


def write(path: Path, files: dict[str, Any]) -> None:
    """A .tgz of JSON files as `npm pack` writes it, the same bytes each time."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, data in files.items():
            content = data if isinstance(data, bytes) else json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def main(folder: Path) -> None:
    """Reads the archives in `folder` and writes small ones."""
    found = find(folder)
    HERE.mkdir(exist_ok=True)
    for package in PACKAGES.values():
        files = found[package].read(("chars.json", "icons.json", "info.json", "package.json"))
        chars = {code: name for code, name in files["chars.json"].items() if plain(code) in CODES}
        icons = {name: files["icons.json"]["icons"][name] for name in chars.values()}
        rest = {key: files["icons.json"][key] for key in ("prefix", "width", "height")}
        small = {"chars.json": chars, "icons.json": {**rest, "icons": icons}, "info.json": files["info.json"]}
        write(HERE / found[package].path.name, {**small, "package.json": files["package.json"]})
    names = found[NAMES].read([*(f"{code}/compact.json" for code in LANGUAGES), "en/data.json", "meta/groups.json", "package.json"])
    small = {
        name: [row for row in rows if plain(row["hexcode"]) in CODES] if isinstance(rows, list) else rows for name, rows in names.items()
    }
    with tarfile.open(found[NAMES].path) as archive:
        licence = archive.extractfile("package/LICENSE")
        assert licence is not None
        small["LICENSE"] = licence.read()
    write(HERE / found[NAMES].path.name, small)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
