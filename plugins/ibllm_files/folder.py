"""Folders of images, each with its captions in a text file beside it. Torch-free."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import attrs

from ibllm.plugin import UserError, nearest
from ibllm_files.cells import SPLIT_WORDS, visible
from ibllm_files.pillow import readable
from ibllm_files.records import Reading, Record
from ibllm_files.sources import Source, shown
from ibllm_files.text import lines
from ibllm_files.trees import Tree, plain

Files = Sequence[tuple[str, Source]]


def text_lines(source: Source) -> Iterator[Record]:
    """The captions of a text file, one a line; empty lines are passed over."""
    for line, text in enumerate(lines(source), 1):
        if caption := visible(text):
            yield Record(file=source.name, line=line, caption=caption)


def suffix(name: str) -> str:
    """The end of a file's name, in small letters."""
    return posixpath.splitext(name)[1].lower()


def folder_records(tree: Tree, files: Files, reading: Reading) -> Iterator[Record]:
    """Every image of a folder with each of its captions, or what is `held` of them."""
    texts = {name: source for name, source in files if suffix(name) == ".txt"}
    if reading.held == ("caption",):
        if not texts:
            raise UserError(f"{tree.name}: no text in this folder; expected files ending in .txt")
        for source in texts.values():
            yield from text_lines(source)
        return
    kinds = readable()
    images = [(name, source) for name, source in files if suffix(name) in kinds]
    others = Counter(suffix(name) or "files without an ending" for name, _ in files if suffix(name) not in kinds and suffix(name) != ".txt")
    if not images:
        raise UserError(f"{tree.name}: no image in this folder; expected files ending in {', '.join(sorted(kinds))}{_there(others)}")
    for kind, count in others.most_common():
        reading.passed.add(
            f"file ending in {kind}, which is not read{_helps(kind)}",
            f"files ending in {kind}, which are not read{_helps(kind)}",
            "",
            count,
        )
    splits = folder_splits([name for name, _ in images])
    for name in splits:
        reading.passed.add("folder that says the split", "folders that say the split", name)
    if reading.held == ("image",):
        for name, source in images:
            yield Record(file=source.name, image=source, split=splits.get(name.partition("/")[0], ""))
        return
    beside = {(posixpath.splitext(name)[0]): name for name in texts}
    used: set[str] = set()
    for name, source in images:
        text = beside.get(posixpath.splitext(name)[0])
        if text is None:
            reading.problems.add(source.name, partial(_no_text, name, beside))
            continue
        used.add(text)
        captions = list(text_lines(texts[text]))
        if not captions:
            reading.problems.add(f"{texts[text].name}:1", "the caption is empty")
        yield from (attrs.evolve(one, image=source, split=splits.get(name.partition("/")[0], "")) for one in captions)
    for name in texts.keys() - used:
        reading.passed.add(
            "text without an image beside it, which is not used", "texts without an image beside them, which are not used", name
        )


def folder_splits(names: Sequence[str]) -> Mapping[str, str]:
    """First folder → split, where all files lie in folders that are called like splits, one of them ``train``; else nothing."""
    tops = dict.fromkeys(name.partition("/")[0] if "/" in name else "" for name in names)
    found = {top: SPLIT_WORDS.get(top.lower(), "") for top in tops}
    return found if all(found.values()) and "train" in found.values() else {}


def _no_text(name: str, beside: Mapping[str, str]) -> str:
    """That an image has no text, and which text is probably meant for it. `beside` is name without ending → text."""
    folder, file = posixpath.split(name)
    stem = posixpath.splitext(file)[0]
    there = {posixpath.basename(one): posixpath.basename(text) for one, text in beside.items() if posixpath.dirname(one) == folder}
    same = [one for one in there if one == file or plain(one) == plain(stem)]
    near = same[0] if same else nearest(stem, there)
    return f"its caption is missing: expected the file {shown(stem)}.txt beside it" + (f"; there is {shown(there[near])}" if near else "")


def _there(others: Mapping[str, int]) -> str:
    """What a folder without images has instead."""
    if not others:
        return ""
    counts = ", ".join(f"{count} {kind}{_helps(kind)}" for kind, count in sorted(others.items(), key=lambda item: -item[1])[:5])
    table = any(kind in (".csv", ".tsv", ".jsonl", ".json") for kind in others)
    return f"; there are {counts}" + ("; path may name a table itself" if table else "")


def _helps(kind: str) -> str:
    return " (pip install pillow-heif reads them)" if kind in (".heic", ".heif") else ""
