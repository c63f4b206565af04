"""``ibllm score``: how well images and texts go together, in the model's eyes."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from ibllm_core.errors import UserError

from .common import (
    device_option,
    examples,
    from_option,
    json_option,
    lines_of,
    note,
    run_argument,
    says_nothing,
    short,
    tell,
    told_already,
    using,
)

EXAMPLES = examples(
    'ibllm score runs/joint a.png "a small red circle at the top left"',
    "ibllm score runs/joint --from captions.csv --json",
)
#: What a pair's line has, beside image and text.
_HEADS = {"text_given_image": "log p(text | image)", "image_given_text": "log p(image | text)", "agreement": "agreement"}
#: Why a model may have none of a figure.
WITHOUT = {
    "text_given_image": "the model has no parts that read images",
    "image_given_text": "the model's image decoder measures no likelihood",
    "agreement": "the model has no space in which texts and images can be compared",
}


@click.command(name="score", epilog=EXAMPLES)
@run_argument
@click.argument("pairs", nargs=-1, metavar="[IMAGE TEXT]...")
@from_option("A table (.csv, .tsv) with the columns image and caption, or lines with an image, a tab and a text")
@device_option
@json_option
def command(run: Path, pairs: tuple[str, ...], file: Path | None, device: str | None, as_json: bool) -> None:
    """Score pairs of IMAGE and TEXT with the trained model of RUN.

    Three figures a pair: log p(text | image) and log p(image | text), in nats, exact or a bound as it says, and the agreement of both in the model's latents.
    What the model has none of is shown as -, and told why.
    """
    from .images import Source, read

    if len(pairs) % 2:
        raise UserError(f"expected an image and a text in turn; {pairs[-1]!r} has no partner")
    asked = [(Path(pairs[k]), pairs[k + 1]) for k in range(0, len(pairs), 2)] + ([] if file is None else _table(file))
    if not asked:
        raise UserError("no pair: give an image and a text, or a table by --from FILE")
    _require_pairs(asked)
    found = [Source(image) for image, _ in asked]
    items: list[dict[str, Any]] = []
    with using(run, device) as model:
        for remark in model.remarks([text for _, text in asked]):
            note(remark)
        for chunk, pixels in read(model, found, "scoring"):
            texts = [text for _, text in asked[len(items) : len(items) + len(chunk)]]
            with told_already(model, texts):
                scores = model.score(list(pixels), texts)
            for source, text, score in zip(chunk, texts, scores, strict=True):
                items.append({"image": str(source.path), "text": text, **attrs.asdict(score)})
    rows = [(item["image"], short(item["text"]), *(_shown(item[name]) for name in _HEADS)) for item in items]
    for name, why in WITHOUT.items():
        if lacking := sum(item[name] is None for item in items):
            note(f"{_HEADS[name]} is - for {'all' if lacking == len(items) else lacking} of them: {why}")
    if kinds := {item["image_kind"] for item in items} - {None, "exact"}:
        note(f"log p(image | text) is a {' or '.join(sorted(kinds))} of it")
    tell({"run": str(run), "items": items}, rows, as_json, ("image", "text", *_HEADS.values()))


def _require_pairs(asked: Sequence[tuple[Path, str]]) -> None:
    """Raises `UserError` for the first pair whose image is not there, or whose text is empty."""
    for number, (image, text) in enumerate(asked, 1):
        if not is_file(image):
            swapped = is_file(text)
            helps = f"; {text} is a file: give the image first, then its text" if swapped else ""
            raise UserError(f"there is no image {short(str(image))}{helps}")
        if says_nothing(text):
            raise UserError(f"text {number} of {len(asked)}, that of {image}, is empty: expected words")


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; False for what can be none."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # longer than a path may be, or with a NUL
        return False


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _table(file: Path) -> list[tuple[Path, str]]:
    """The pairs of a table, paths relative to it. Raises `UserError` for a row that is none."""
    lines = lines_of(file)
    tabs = file.suffix.lower() != ".csv"
    rows = list(csv.reader(lines, delimiter="\t" if tabs else ","))
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    named = "image" in head and "caption" in head
    places = (head.index("image"), head.index("caption")) if named else (0, 1)
    base = Path() if str(file) == "-" else file.parent
    found = []
    for number, row in enumerate(rows[1:] if named else rows, 2 if named else 1):
        if len(row) <= max(places):
            raise UserError(f"{file}:{number}: expected an image and a text, with a {'tab' if tabs else 'comma'} between")
        found.append((base / row[places[0]].strip(), row[places[1]].strip()))
    return found
