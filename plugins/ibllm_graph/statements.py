"""What a file says, statement by statement, before anything is numbered. Torch-free."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

from ibllm.plugin import UserError


@attrs.frozen
class Statement:
    """Subject, relation, object; `literal` where the object is a text or a number and no entity, in a `language` if that is said."""

    subject: str
    relation: str
    object: str
    literal: bool = False
    language: str = ""


def text_of(path: Path) -> str:
    """A file's text. Raises `UserError` where it is not UTF-8."""
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8: expected a text file") from None


def spoken(entity: str) -> str:
    """What an entity is called in a text where the file does not say: the last piece of an IRI, its words apart."""
    if "://" in entity or entity.startswith("urn:"):
        entity = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.split(r"[#/:]", entity.rstrip("#/"))[-1]).lower()
    return entity if entity.startswith("_:") else " ".join(entity.replace("_", " ").split())
