"""Text files: their encoding and their lines. Torch-free."""

from __future__ import annotations

import codecs
import gzip
import io
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from ibllm.plugin import UserError
from ibllm_files.sources import Source, shown

#: Beginning of a file → its encoding; UTF-32's marks begin as UTF-16's do.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def lines(source: Source) -> Iterator[str]:
    r"""A text file's lines with their ends; only \n, \r\n and \r end one. UTF-8, or what its byte order mark says.

    Raises:
        UserError: it cannot be read, or is of another encoding; the line is named.
    """
    try:
        with opened(source) as file:
            yield from io.TextIOWrapper(file, encoding=encoding(file), newline="")
    except UnicodeDecodeError:
        raise _undecodable(source) from None
    except (OSError, EOFError) as error:
        raise UserError(f"{shown(source.name)}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def opened(source: Source) -> io.BufferedReader:
    """A file's bytes, unpacked where its name ends in .gz."""
    raw: Any = source.open()
    file = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if source.name.lower().endswith(".gz") else raw
    return io.BufferedReader(cast(Any, file))


def encoding(file: io.BufferedReader) -> str:
    """What its first bytes say: a byte order mark, or the zeros between the letters of UTF-16 without one."""
    head = file.peek(64)[:64]
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if len(head) >= 4 and not any(head[1::2]):
        return "utf-16-le"
    return "utf-16-be" if len(head) >= 4 and not any(head[0::2]) else "utf-8-sig"


def _undecodable(source: Source) -> UserError:
    """Where a file is not in its encoding; it is read once more, since a stream does not know its line."""
    with opened(source) as file:
        name = encoding(file)
        data = file.read()
    called = name.upper().removesuffix("-SIG").removesuffix("-LE").removesuffix("-BE")
    try:
        data.decode(name)
    except UnicodeDecodeError as error:
        line = len(re.findall("\r\n|\r|\n", data[: error.start].decode(name, "ignore"))) + 1
        byte = error.object[error.start] if error.start < len(error.object) else 0
        return UserError(f"{shown(source.name)}:{line}: byte 0x{byte:02x} is not {called}; save the file as UTF-8")
    return UserError(f"{shown(source.name)}: not {called}; save the file as UTF-8")
