"""What a shard holds: members, grouped to samples as the library groups them, and what a sample says. Torch-free."""

from __future__ import annotations

import json
import os
import re
import tarfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeAlias

import attrs

from ibllm.plugin import UserError, content_hashes
from ibllm_stream.config import SPLITS, WebDatasetConfig

#: What lies where in a shard: offset and bytes.
Region: TypeAlias = tuple[int, int]
#: Names that the library passes over: what it keeps about a shard itself.
META = re.compile(r"__[^/]*__($|/)")


def library() -> Any:
    """The package `webdataset`. Raises `UserError` where it is not installed."""
    try:
        import webdataset
        import webdataset.filters
        import webdataset.tariterators
    except ImportError:
        raise UserError("the dataset webdataset needs the package webdataset: pip install 'ibllm[stream]'") from None
    return webdataset


def shards_of(config: WebDatasetConfig, split: str) -> list[str]:
    """The shards of a split, in order: braces and wildcards are expanded, names are of the folder `path`; of a stream whatever stands there.

    Raises:
        UserError: a pattern fits nothing, or names what is no file.
    """
    library()
    import braceexpand  # a dependency of webdataset's, by which it expands braces itself

    found: list[str] = []
    for pattern in filter(None, getattr(config, split).split("::")):
        if _is_stream(pattern):
            names = list(braceexpand.braceexpand(pattern))
        else:
            names = [name for one in braceexpand.braceexpand(pattern) for name in _matching(Path(config.path), one, f"data.{split}")]
        found += names
    twice = sorted({name for name in found if found.count(name) > 1}) if len(set(found)) < len(found) else []
    if twice:
        raise UserError(f"data.{split}: the shard {twice[0]} is named twice")
    return found


def _is_stream(name: str) -> bool:
    return bool(re.match(r"[a-z][a-z0-9+]+:", name))


def _matching(folder: Path, pattern: str, key: str) -> list[str]:
    path = folder / Path(pattern).expanduser()
    if not any(sign in pattern for sign in "*?["):
        return [str(path)]
    base = Path(path.anchor) if path.is_absolute() else Path()
    names = sorted(str(one) for one in base.glob(str(path.relative_to(path.anchor))) if one.is_file())
    if not names:
        raise UserError(f"{key}: no shard fits {path}")
    return names


def local(shards: Iterable[str], split: str) -> list[Path]:
    """Shards as files. Raises `UserError`, naming up to 20, where they are none."""
    wrong, found = list[str](), list[Path]()
    for shard in shards:
        if _is_stream(shard):
            what = "is no file, so it cannot be indexed"
            helps = "indexed = false reads it as a stream" if split == "train" else "a stream is for training alone; download its shards"
            wrong.append(f"{shard} {what}: {helps}")
        elif not os.path.isfile(shard):
            wrong.append(f"there is no shard {shard}")
        found.append(Path(shard))
    if wrong:
        more = [f"… and {len(wrong) - 20} more"] if len(wrong) > 20 else []
        raise UserError("\n  ".join([f"data.{split}: {len(wrong)} of {len(found)} shards cannot be used", *wrong[:20], *more]))
    return found


@attrs.frozen
class _Shard:
    """A shard as a source of bytes."""

    path: Path

    @property
    def key(self) -> str:
        stat = self.path.stat()
        return f"{self.path.absolute()}|{stat.st_size}|{stat.st_mtime_ns}"

    def open(self) -> BinaryIO:
        return self.path.open("rb")


def contents(config: WebDatasetConfig) -> list[tuple[str, str]]:
    """(name, hash) of every shard; of a stream its shards' names alone."""
    found = list[tuple[str, str]]()
    for split in SPLITS:
        shards = shards_of(config, split)
        if split == "train" and not config.indexed:
            found += [(shard, "stream") for shard in shards]
        else:
            files = local(shards, split)
            found += zip((f"{split}/{file.name}" for file in files), content_hashes([_Shard(file) for file in files]), strict=True)
    return found


@attrs.frozen
class Sample:
    """A sample of a shard: ending in lower case → where it lies (`Region`), or the bytes themselves in a stream."""

    key: str
    files: Mapping[str, Any]


def indexed_samples(shard: Path, problem: Callable[[str], None]) -> Iterator[Sample]:
    """The samples of a shard in its order; only headers are read. What is wrong goes to `problem`.

    Raises:
        UserError: it is no tar file, compressed, or cut off.
    """
    grouped = library().tariterators.group_by_keys(_regions(shard, problem), handler=_to(problem, shard))
    for sample in grouped:
        yield Sample(sample["__key__"], {ending: value for ending, value in sample.items() if not ending.startswith("__")})


def _to(problem: Callable[[str], None], shard: object) -> Callable[[Exception], bool]:
    """A handler for the library: what it raises is a problem, and it goes on."""

    def handler(error: Exception) -> bool:
        problem(f"{shard}: {error.args[0] if error.args else error}")
        return True

    return handler


def _regions(shard: Path, problem: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """The members of a tar file as the library's grouping takes them, with regions for their data."""
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # they would all be kept
                if wrong := unsafe(member):
                    problem(f"{shard}: the member {shown(member.name)} {wrong}")
                elif member.isreg() and not META.match(member.name):
                    yield {"fname": member.name, "data": (member.offset_data, member.size), "__url__": str(shard)}
            rest = tar.offset
        yield {}
        with shard.open("rb") as file:
            file.seek(rest)
            if file.read(1 << 20).strip(b"\0"):
                problem(f"{shard}: what follows its byte {rest:,} is not read: no member begins there")
    except tarfile.ReadError as error:
        with shard.open("rb") as file:
            packed = file.read(3) in (b"\x1f\x8b\x08", b"BZh", b"\xfd7z")
        helps = "unpack it: what is compressed cannot be read out of order" if packed else str(error) or "it is no tar file"
        raise UserError(f"the shard {shard} cannot be read: {helps}") from None


def unsafe(member: tarfile.TarInfo) -> str:
    """Why a member is not looked at; empty for one that is."""
    path = PurePosixPath(member.name)
    if path.is_absolute():
        return "has an absolute path"
    if ".." in path.parts:
        return "leaves its folder by .."
    if member.issparse():
        return "is sparse"
    if "\0" in member.name or not _encodable(member.name):
        return "has a name that is no text"
    return "" if member.isreg() or member.isdir() else "is a link" if member.issym() or member.islnk() else "is no file"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(text: str) -> str:
    """A text as any terminal and file can take it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def image_of(sample: Sample, config: WebDatasetConfig) -> str:
    """The ending of a sample's image; empty where it has none."""
    return next((ending for ending in config.image.lower().split(";") if ending in sample.files), "")


def captions_of(sample: Sample, config: WebDatasetConfig, read: Callable[[Any], bytes]) -> tuple[list[str], str, str]:
    """A sample's captions, their language, and what is wrong (empty for nothing).

    Args:
        read: gives the bytes of one of its files.
    """
    ending, language = config.caption.lower(), config.language
    if ending not in sample.files:
        return [], language, f"has no caption: there is no file ending in .{ending}"
    try:
        text = read(sample.files[ending]).decode("utf-8-sig")
        told = json.loads(text) if ending == "json" else None
        if config.language_key and (told or "json" in sample.files):
            about = told if told is not None else json.loads(read(sample.files["json"]))
            language = str(about.get(config.language_key) or language) if isinstance(about, dict) else language
    except UnicodeDecodeError:
        return [], language, f"has a caption that is not UTF-8 (.{ending})"
    except ValueError as error:
        return [], language, f"has what is no JSON ({error})"
    if ending == "json":
        given = told.get(config.caption_key) if isinstance(told, dict) else None
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not texts or not all(isinstance(one, str) for one in texts):
            return [], language, f"has no text, nor an array of texts, under {config.caption_key!r} in its JSON"
    else:
        texts = [line for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
    return _cleaned(texts, language)


def _cleaned(texts: list[str], language: str) -> tuple[list[str], str, str]:
    found = [" ".join(unicodedata.normalize("NFC", text).split()) for text in texts]
    if not found or not all(any(c.isprintable() and not c.isspace() for c in text) for text in found):
        return [], language, "has an empty caption"
    if not all(map(_encodable, found)):
        return [], language, "has a caption with half of a surrogate pair"
    return found, language, ""
