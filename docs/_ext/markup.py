"""Pieces of MyST text."""

from __future__ import annotations

import re
from collections.abc import Iterable


def anchor(kind: str, name: str) -> str:
    return f"{kind}-{name}".replace("_", "-")


def link(kind: str, name: str) -> str:
    return f"[{kind}.{name}](#{anchor(kind, name)})"


def words(found: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in sorted(found)) or "nothing"


def plain(text: str) -> str:
    """Plain text as MyST: what stands in backticks is kept, a command's option is put into them, elsewhere nothing is taken for a mark."""
    pieces = re.split(r"(``?[^`]+``?)", re.sub(r"(?<!\S)--[a-z-]+", r"`\g<0>`", text))
    return "".join(piece if piece.startswith("`") else re.sub(r"([<*|\\])", r"\\\1", piece) for piece in pieces)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = tuple(header)
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(" ".join(cell.split()) for cell in row) + " |" for row in lines)
