"""What all four artists drew, and its names. Torch-free."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from ibllm.plugin import UserError
from ibllm_emoji.styles.archives import NAMES, PACKAGES, Archive
from ibllm_emoji.styles.wording import cleaned


@attrs.frozen
class Concept:
    """One thing that all four drew.

    Attributes:
        code: its code points, lower-case hexadecimal joined by "-", without the variation selector FE0F.
        names: language → its name, in NFC.
        icons: style → what its drawing is called in that style's package.
    """

    code: str
    names: Mapping[str, str]
    icons: Mapping[str, str]


@attrs.frozen(eq=False)
class Artist:
    """One style's package, without its drawings.

    Attributes:
        style: its name here.
        icons: code points → the icon's name.
        about: title, author and licence, as the package says them.
        version: of the package.
    """

    style: str
    icons: Mapping[str, str]
    about: Mapping[str, Any]
    version: str


def plain(code: str) -> str:
    """Code points as concepts are matched by: packages differ in where they write FE0F."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def artists(archives: Mapping[str, Archive]) -> dict[str, Artist]:
    """Style → its package. Raises `UserError` where an archive lacks a file."""
    found = {}
    for style, package in PACKAGES.items():
        files = archives[package].read(("chars.json", "info.json", "package.json"))
        if len(files) < 3:
            raise UserError(f"{archives[package].path}: expected chars.json, info.json and package.json of {package}")
        icons = {plain(code): name for code, name in files["chars.json"].items()}
        found[style] = Artist(style, icons, files["info.json"], files["package.json"]["version"])
    return found


def concepts(archives: Mapping[str, Archive], drawn: Mapping[str, Artist], languages: Sequence[str]) -> list[Concept]:
    """What has a name in each of `languages` and a drawing in each style, without variants of skin, in Unicode's order.

    Raises:
        UserError: a language's names are not in the archive.
    """
    archive = archives[NAMES]
    files = {f"{language}/compact.json": language for language in ("en", *languages)}
    read = archive.read(files)
    if missing := [name for name in files if name not in read]:
        raise UserError(f"{archive.path}: there is no {', '.join(missing)}")
    names = {files[name]: {plain(row["hexcode"]): row["label"] for row in rows} for name, rows in read.items()}

    def tidy(code: str, language: str) -> str:
        return unicodedata.normalize("NFC", cleaned(names[language][code], language))

    found = []
    for row in sorted(read["en/compact.json"], key=lambda row: row.get("order", 0)):
        code = plain(row["hexcode"])
        if all(code in artist.icons for artist in drawn.values()) and all(code in names[language] for language in languages):
            icons = {style: artist.icons[code] for style, artist in drawn.items()}
            found.append(Concept(code, {language: tidy(code, language) for language in languages}, icons))
    return found


def drawings(archive: Archive, icons: Sequence[str]) -> Iterator[str]:
    """The SVG of some icons of a package, each in a square as wide as its longer side.

    Raises:
        UserError: the package lacks one of them.
    """
    files = archive.read(("icons.json",))
    if "icons.json" not in files:
        raise UserError(f"{archive.path}: there is no icons.json")
    data = files["icons.json"]
    for name in icons:
        icon = data["icons"].get(name)
        if icon is None:
            raise UserError(f"{archive.path}: chars.json names the icon {name!r}, which icons.json lacks")
        left, top = (icon.get(key, data.get(key, 0)) for key in ("left", "top"))
        width, height = (icon.get(key, data.get(key, 16)) for key in ("width", "height"))
        side = max(width, height)
        box = f"{left - (side - width) / 2:g} {top - (side - height) / 2:g} {side:g} {side:g}"
        space = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        yield f'<svg {space} viewBox="{box}">{icon["body"]}</svg>'
