"""Captions in COCO's JSON, and in the form in which Karpathy's splits of COCO and Flickr are given. Torch-free."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ibllm.plugin import UserError
from ibllm_files.cells import Table
from ibllm_files.jsonl import object_records
from ibllm_files.records import Record, place_of
from ibllm_files.sources import Source, shown
from ibllm_files.text import lines


def json_records(source: Source, table: Table) -> Iterator[Record]:
    """The records of a .json: captions of COCO, Karpathy's form of them, or an array of objects as in .jsonl.

    Raises:
        UserError: it is none of them.
    """
    try:
        found = json.loads("".join(lines(source)))
    except (json.JSONDecodeError, RecursionError) as error:
        said = f"{error.msg} at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "too deep"
        raise UserError(f"{shown(table.name)}: not JSON ({said})") from None
    if isinstance(found, list):
        table.line = "item"
        yield from object_records(table, enumerate(found, 1))
        return
    images = found.get("images") if isinstance(found, dict) else None
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise UserError(
            f'{shown(table.name)}: expected an array of objects, or COCO\'s captions: an object with "images" and "annotations"'
        )
    if any("sentences" in image for image in images):
        yield from _karpathy(images, table)
    else:
        yield from _coco(images, found.get("annotations"), table)


def _coco(images: Sequence[Mapping[str, Any]], annotations: Any, table: Table) -> Iterator[Record]:
    """Captions refer to images by number; where images alone are asked for, they are the records."""
    files = {image["id"]: image.get("file_name") for image in images if "id" in image}
    if table.reading.held == ("image",):
        table.line = "image"
        for number, name in files.items():
            yield from table.record(_number(number), {"image": name})
        return
    if not isinstance(annotations, list) or not any(isinstance(one, dict) and "caption" in one for one in annotations):
        raise UserError(f"{shown(table.name)}: its annotations have no captions; expected a file such as captions_train2017.json")
    table.line, used = "annotation", set()
    for place, one in enumerate(annotations, 1):
        number = _number(one.get("id", place)) if isinstance(one, dict) else place
        image = one.get("image_id") if isinstance(one, dict) else None
        if "image" in table.reading.held and (not isinstance(image, int | str) or image not in files):
            table.reading.problems.add(place_of(table.name, number, table.line), f"there is no image with the id {image!r}")
            continue
        used.add(image)
        yield from table.record(number, {"image": files.get(image), "caption": one.get("caption"), "language": one.get("language")})
    for number in files.keys() - used:
        table.reading.passed.add("image without a caption", "images without a caption", str(files[number]))


def _number(value: Any) -> int:
    return value if isinstance(value, int) else int(value) if isinstance(value, str) and value.isdecimal() else 0


def _karpathy(images: Sequence[Mapping[str, Any]], table: Table) -> Iterator[Record]:
    """Every image has its sentences and its split; ``filepath`` is the folder that its ``filename`` is in."""
    table.line = "image"
    for number, image in enumerate(images, 1):
        name, folder, said = image.get("filename"), image.get("filepath"), image.get("sentences")
        if isinstance(name, str) and isinstance(folder, str):
            name = posixpath.join(folder, name)
        captions = [one.get("raw") if isinstance(one, dict) else None for one in said] if isinstance(said, list) else None
        yield from table.record(number, {"image": name, "caption": captions, "split": image.get("split")})
