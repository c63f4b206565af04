"""What was found as tables, which the terminal and the page both show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from ibllm.vocabulary import percent

from .looking import EXAMPLES, Data, Look, Split


@attrs.frozen(kw_only=True)
class Table:
    """A table: `key` names it as an anchor, `numbers` are the columns that stand to the right, `about` says how to read it."""

    key: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()
    about: str = ""


def tables(found: Look) -> list[Table]:
    """All of them, in the order in which they are shown; those without rows are left out."""
    several = len(found.data) > 1
    made = [table for data in found.data for table in _of(data, found, f" of {data.place}" if several else "")]
    return [table for table in made if table.rows]


def _of(data: Data, found: Look, of: str) -> Iterator[Table]:
    prefix = data.place.replace(".", "-")
    yield _splits(data, prefix, of)
    yield from _images(data, prefix, of)
    yield from _texts(data, found, prefix, of)
    yield _languages(data, prefix, of)
    yield _duplicates(data, prefix, of)


def _splits(data: Data, prefix: str, of: str) -> Table:
    return Table(
        key=f"{prefix}-splits",
        title=f"Splits{of}",
        header=("split", "items", "images", "captions", "what it holds"),
        rows=[(one.name, f"{one.items:,}", _count(one.images), _count(one.captions), one.holds) for one in data.splits],
        numbers=frozenset({1, 2, 3}),
        about="Images and captions are different ones" + _of_first(data.splits) + ".",
    )


def _of_first(splits: Sequence[Split]) -> str:
    """For the end of a sentence: which items were looked at, where they are not all."""
    some = max((one.looked for one in splits if one.looked < one.items), default=0)
    return f", among the first {some:,} items of a split" if some else ""


def _count(number: int | None) -> str:
    return "—" if number is None else f"{number:,}"


def _images(data: Data, prefix: str, of: str) -> Iterator[Table]:
    facts, (_, height, width) = data.facts, data.shape
    made = f"The model sees {width}×{height} pixels" + (f": {data.fitting}." if data.fitting and facts is not None else ".")
    if facts is None or not len(facts.sizes):
        return
    sizes = facts.sizes[facts.sizes.prod(1) > 0]
    if not len(sizes):
        return
    order = sizes[np.argsort(sizes.prod(1), kind="stable")]
    small, middle, large = (f"{w}×{h}" for w, h in (order[0], order[len(order) // 2], order[-1]))
    kept = sizes.min(1) ** 2 / sizes.prod(1)
    enlarged = int((sizes.min(1) < min(width, height)).sum())
    rows = [("smallest, median, largest", f"{small}, {middle}, {large}")]
    rows += [(kind, f"{count:,}") for kind, count in Counter(facts.kinds).most_common() if kind]
    rows += [("animated", f"{int(facts.animated.sum()):,}: the first frame is taken")] if facts.animated.any() else []
    rows += [("smaller than what the model sees", f"{enlarged:,}: they are enlarged")] if enlarged else []
    if data.fitting == "the middle square":
        cut = int((kept < 0.5).sum())
        rows.append(("kept by the crop", f"{percent(float(np.median(kept)))} of the median image; less than half of {cut:,}"))
    rows += [("broken", f"{len(facts.broken):,}")] if facts.broken else []
    yield Table(key=f"{prefix}-images", title=f"Images{of}, as they lie in their files", header=("what", ""), rows=rows, about=made)


def _texts(data: Data, found: Look, prefix: str, of: str) -> Iterator[Table]:
    lengths, unknown = [], []
    for name, (_, most, _) in found.tokenizers.items():
        for one in data.splits:
            reading = one.readings.get(name)
            if reading is None or not reading.lengths:
                continue
            low, middle, high = (int(value) for value in np.percentile(reading.lengths, (0, 50, 100)))
            cut = f"{reading.cut:,} ({percent(reading.cut / reading.texts)})" if reading.cut else "none"
            lengths.append((name, one.name, f"{reading.texts:,}", f"{low}–{middle}–{high}", str(most), cut))
            words = ", ".join(reading.unknown[:EXAMPLES]) + (", …" if len(reading.unknown) > EXAMPLES else "")
            share = percent(reading.unknowns / max(1, reading.tokens))
            unknown.append((name, one.name, f"{len(reading.unknown):,}", share if reading.unknown else "0 %", words))
    told = "; ".join(
        f"{name}: up to {size:,} ids, for {', '.join(users) or 'no part'}" for name, (size, _, users) in found.tokenizers.items()
    )
    yield Table(
        key=f"{prefix}-lengths",
        title=f"Texts{of} in tokens, beside max_length",
        header=("tokenizer", "split", "texts", "min–median–max", "max_length", "cut"),
        rows=lengths,
        numbers=frozenset({2, 3, 4, 5}),
        about="Different texts, captions with questions and answers; beginning and end are counted.",
    )
    yield Table(
        key=f"{prefix}-vocabulary",
        title=f"Words{of} that no vocabulary has",
        header=("tokenizer", "split", "words", "of the tokens", "some of them"),
        rows=unknown if any(row[2] != "0" for row in unknown) else [(*row[:4], "none") for row in unknown],
        numbers=frozenset({2, 3}),
        about=f"{told}. Vocabularies are made of the split train.",
    )


def _languages(data: Data, prefix: str, of: str) -> Table:
    rows = [(one.name, _shares(one.languages, one.looked), _shares(one.scripts, one.looked)) for one in data.splits if one.languages]
    about = f"Of captions{_of_first(data.splits)}; a caption may have letters of several scripts."
    return Table(
        key=f"{prefix}-languages", title=f"Languages and scripts{of}", header=("split", "languages", "scripts"), rows=rows, about=about
    )


def _shares(counts: Mapping[str, int], total: int, most: int = 8) -> str:
    said = [f"{name} {percent(count / max(1, total))}" for name, count in list(counts.items())[:most]]
    return ", ".join(said) + (f", and {len(counts) - most} more" if len(counts) > most else "")


def _duplicates(data: Data, prefix: str, of: str) -> Table:
    rows = []
    for one in data.splits:
        if one.name != "train":
            images = f"{one.leaked_images:,}" if one.images is not None else "—"
            rows.append((one.name, images, f"{one.leaked_captions:,}" if one.captions is not None else "—", "; ".join(one.repeats[:1])))
        elif one.repeats:
            rows.append((one.name, "", "", "; ".join(one.repeats[:2])))
    about = f"How many items have an image, or a caption, that is in train, too{_of_first(data.splits)}: images as the model sees them."
    header = ("split", "images in train", "captions in train", "one picture, several items")
    return Table(
        key=f"{prefix}-leaks", title=f"Duplicates{of}, and what leaks", header=header, rows=rows, numbers=frozenset({1, 2}), about=about
    )


def plain(found: Look) -> dict[str, Any]:
    """The same as JSON, but for pixels."""
    return {
        "recipe": found.recipe,
        "refused": list(found.refused),
        "tokenizers": {
            name: {"size": size, "max_length": most, "parts": list(users)} for name, (size, most, users) in found.tokenizers.items()
        },
        "data": {data.place: _plain(data) for data in found.data},
    }


def _plain(data: Data) -> dict[str, Any]:
    named = ("use", "provider", "fingerprint", "licence", "attribution", "fitting")
    facts = data.facts
    images: dict[str, Any] = {"seen_as": list(data.shape)}
    if facts is not None:
        images |= {
            "count": len(facts.sizes),
            "sizes": facts.sizes.tolist(),
            "kinds": dict(Counter(facts.kinds)),
            "broken": len(facts.broken),
        }
        images |= {"animated": int(facts.animated.sum())}
    return {
        **{name: getattr(data, name) for name in named},
        "images": images,
        "splits": {one.name: _plain_split(one) for one in data.splits},
        "notes": list(data.notes),
        "left_out": list(data.left_out),
    }


def _plain_split(split: Split) -> dict[str, Any]:
    found = attrs.asdict(split, recurse=False, filter=lambda field, _: field.name not in ("name", "shown", "readings"))
    read = {}
    for name, one in split.readings.items():
        read[name] = attrs.asdict(one) | {"lengths": dict(sorted(Counter(one.lengths).items())), "unknown": list(one.unknown)}
    return found | {"texts": read}
