"""What a model's tokenizers leave out of the texts that it learns and is measured on: words without an id, and what is beyond `max_length`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

import attrs

from ibllm_core.interfaces.dataset import Dataset
from ibllm_core.interfaces.tokenizer import UNK, Tokenizer
from ibllm_core.recipe.schema import Recipe
from ibllm_core.training.events import Listener, Prepared

from .data_prints import of_session

#: Words that are named.
SHOWN = 8
#: Texts of a split that are looked at, and characters of a text that are shown.
MOST, CHARACTERS = 65_536, 60
#: Parts of a model that read and write texts; what it is told of languages is none of the data's.
_PARTS = ("text_encoder", "text_decoder")
#: What is to be told of data and vocabularies that were looked at in this process.
_KNOWN: dict[tuple[object, ...], Sequence[str]] = {}


@attrs.frozen
class Reading:
    """What a tokenizer makes of some different texts.

    Attributes:
        texts: how many they are.
        lengths: tokens of each, beginning and end included, as they were before they were cut.
        cut: how many are longer than `max_length`.
        longest: the longest of them, or empty.
        unknown: words that have no id, in order; where all have one, marks.
        tokens, unknowns: tokens of all texts, and how many of them are unknown.
    """

    texts: int
    lengths: Sequence[int]
    cut: int
    longest: str
    unknown: tuple[str, ...]
    tokens: int
    unknowns: int


def read(texts: Iterable[str], tokenizer: Tokenizer) -> Reading:
    """Looks at every different text once."""
    different = list(dict.fromkeys(texts))
    room, rows = tokenizer.max_length - 2, list(tokenizer.encode_each(different))
    rows = [tokenizer.encode_one(text) if len(row) >= room else row for text, row in zip(different, rows, strict=True)]
    long = max((text for text, row in zip(different, rows, strict=True) if len(row) > room), key=len, default="")
    affected = [text for text, row in zip(different, rows, strict=True) if UNK in row]
    return Reading(
        texts=len(different),
        lengths=[len(row) + 2 for row in rows],
        cut=sum(len(row) > room for row in rows),
        longest=long,
        unknown=unknown(affected, tokenizer),
        tokens=sum(map(len, rows)),
        unknowns=sum(list(row).count(UNK) for row in rows),
    )


class Vocabulary(Listener):
    """Tells before a run what its model cannot know of the texts that it learns, is validated on and is measured on."""

    def on_prepared(self, event: Prepared) -> None:
        session = event.session
        for text in of_run(session.recipe, session.dataset, session.model.tokenizers, of_session(session)["data"].digest):
            session.tell(text)


def of_run(recipe: Recipe, dataset: Dataset, tokenizers: Mapping[str, Tokenizer], digest: str) -> list[str]:
    """What is to be told of the splits of a run: of train, of what stages are validated on, and of what is reported.

    Args:
        digest: of the data (`ibllm.data_prints`): what was found out about texts once is not looked up again in this process.
    """
    looked: dict[str, int | None] = dict.fromkeys(recipe.evaluation.splits, recipe.evaluation.items)
    looked |= {
        stage.validate.split: stage.validate.items for stage in recipe.running() if stage.validate is not None and stage.validate.every
    }
    found = told(dataset, tokenizers, {"train": None, **looked}, (digest, recipe.seed.data))
    return found + _languages(recipe, dataset)


def told(
    dataset: Dataset, tokenizers: Mapping[str, Tokenizer], splits: Mapping[str, int | None], key: tuple[object, ...] | None = None
) -> list[str]:
    """A sentence for each split whose first texts have words that a tokenizer lacks, and for each in which some are cut.

    Args:
        splits: split → items that are looked at; None for all, as far as they are no more than `MOST`.
        key: says which data they are: equal ones are not read again.
    """
    parts = {part: tokenizers[part] for part in _PARTS if part in tokenizers}
    return [said for split, items in splits.items() if parts for said in _of_split(dataset, split, items, parts, key)]


def _of_split(
    dataset: Dataset, split: str, items: int | None, parts: Mapping[str, Tokenizer], key: tuple[object, ...] | None
) -> Sequence[str]:
    if key is None:
        return list(_sentences(split, texts_of(dataset, split, items), parts))
    states = tuple((part, type(one), one.max_length, hashlib.sha256(one.state().encode()).hexdigest()) for part, one in parts.items())
    full = (*key, type(dataset), split, items, states)
    if full not in _KNOWN:
        _KNOWN[full] = list(_sentences(split, texts_of(dataset, split, items), parts))
    return _KNOWN[full]


def texts_of(dataset: Dataset, split: str, items: int | None = None) -> Sequence[str]:
    """The texts of the split's first items; of all where the data say that these are enough, or they are no more than `MOST`."""
    if items is None and dataset.sizes()[split] > MOST and type(dataset).corpus is Dataset.corpus:
        items = MOST
    return dataset.corpus(split, items) if items is not None else dataset.corpus(split)


def _sentences(split: str, texts: Iterable[str], parts: Mapping[str, Tokenizer]) -> Iterable[str]:
    given, users, readings = list(texts), dict[int, list[str]](), dict[int, tuple[Reading, int]]()
    for part, tokenizer in parts.items():
        users.setdefault(id(tokenizer), []).append(part)
        if id(tokenizer) not in readings:
            readings[id(tokenizer)] = read(given, tokenizer), tokenizer.max_length
    lacking: dict[tuple[tuple[str, ...], str], list[str]] = {}
    cut: dict[str, list[str]] = {}
    for one, (found, most) in readings.items():
        if found.unknown:
            lacking.setdefault((found.unknown, percent(found.unknowns / found.tokens)), []).extend(users[one])
        if found.cut:
            shown = found.longest if len(found.longest) <= CHARACTERS else f"{found.longest[: CHARACTERS - 1]}…"
            many = f"{found.cut:,} of {found.texts:,} different texts {'is' if found.cut == 1 else 'are'} cut to max_length = {most} tokens"
            cut.setdefault(f"{many} for {{}}; the longest has {max(found.lengths)}: {shown!r}", []).extend(users[one])
    for (words, share), named in lacking.items():
        said = "1 word is" if len(words) == 1 else f"{len(words)} words are"
        more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
        what = f"split {split}: {said} not in the vocabulary of {', '.join(named)}, so nothing can be known of them ({share} of the tokens)"
        yield f"{what}: {', '.join(words[:SHOWN])}{more}"
    for what, named in cut.items():
        yield f"split {split}: {what.replace('{}', ', '.join(named), 1)}"


def percent(share: float) -> str:
    """A share in words that are never 0 % where there is something."""
    return "less than 0.1 %" if 0 < share < 0.001 else f"{f'{100 * share:.1f}'.removesuffix('.0')} %"


def _languages(recipe: Recipe, dataset: Dataset) -> list[str]:
    """A sentence where captions are in languages that the captioner is not told."""
    said = getattr(recipe.data.config, "languages", None) or getattr(recipe.data.config, "language", None)
    codes = [said] if isinstance(said, str) else list(said or ())
    if not recipe.languages or not (others := [code for code in codes if code not in recipe.languages]):
        return []
    return [f"model.text_decoder.languages does not name {', '.join(others)}, in which captions are: it cannot be asked to write in them"]


def unknown(texts: Iterable[str], tokenizer: Tokenizer) -> tuple[str, ...]:
    """The words of some texts that a tokenizer has no id for, in order; where it knows them all, the marks."""
    affected = [text for text in texts if UNK in tokenizer.encode_one(text)]

    def lacking(pieces: str) -> tuple[str, ...]:
        found = dict.fromkeys(piece for text in affected for piece in re.findall(pieces, text))
        return tuple(sorted(piece for piece in found if UNK in tokenizer.encode_one(piece)))

    return lacking(r"\w+") or lacking(r"[^\w\s]")
