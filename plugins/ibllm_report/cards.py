"""Samples as the page shows them: what was drawn, what was read, and where a caption went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from ibllm_core.runs.figures import NOT_INDEPENDENT

from . import words
from .files import Item


@attrs.frozen
class Verdict:
    """A judgement: right, wrong, or neither (None)."""

    text: str
    right: bool | None


@attrs.frozen(kw_only=True)
class Reading:
    """A caption read off an image, against its reference; the stretches that differ are marked unless the caption is known to be right."""

    reference: Sequence[words.Segment]
    text: Sequence[words.Segment]
    verdicts: Sequence[Verdict]


@attrs.frozen(kw_only=True)
class Card:
    """One sample with what is to be said of it; what was not drawn or not read back is None.

    Attributes:
        drawn: what the metrics say of the generated image.
        read: the caption read off the real image.
        trip: the caption read off the generated image.
    """

    item: Item
    drawn: Sequence[Verdict]
    read: Reading | None
    trip: Reading | None


@attrs.frozen(kw_only=True)
class Deck:
    """The samples of one split."""

    split: str
    cards: Sequence[Card]

    @property
    def drawings(self) -> list[Card]:
        return [card for card in self.cards if card.item.generated is not None]

    @property
    def readings(self) -> list[Card]:
        return [card for card in self.cards if card.read is not None]

    @property
    def trips(self) -> list[Card]:
        return [card for card in self.cards if card.trip is not None]


def decks(samples: Mapping[str, Sequence[Item]]) -> list[Deck]:
    """One deck a split."""
    return [Deck(split=split, cards=[_card(item) for item in items]) for split, items in samples.items()]


def _card(item: Item) -> Card:
    scene = item.right.get("scene")
    drawn = [] if scene is None else [Verdict("image right" if scene else "image wrong", scene)]
    read = None if item.read is None else _reading(item.caption, item.read, item.right.get("caption"), "caption right", "caption wrong")
    return Card(item=item, drawn=drawn, read=read, trip=None if item.reread is None else _trip(item, item.reread, drawn))


def _reading(reference: str | None, text: str, right: bool | None, yes: str, no: str) -> Reading:
    expected, found = words.compare(reference or "", text)
    same = not any(segment.differs for segment in (*expected, *found))
    if right is None:  # other words may still be right: without a metric's word on it, they are marked and not judged
        verdict = Verdict("same words" if same else "other words", True if same else None)
    else:
        verdict = Verdict((yes if same else f"{yes}, in other words") if right else no, right)
    if right:
        expected, found = words.plain(reference or ""), words.plain(text)
    return Reading(reference=expected, text=found, verdicts=[verdict])


def _trip(item: Item, reread: str, drawn: Sequence[Verdict]) -> Reading:
    """That the caption came back is only the captioner's word, so it is told and not judged; what the metrics judged comes first."""
    whole, scene = item.right.get("roundtrip"), item.right.get("scene")
    # A trip is right if the scene is and the caption came back; where only the trip is known, that tells of the caption unless the scene failed too.
    implied = True if whole else False if whole is False and scene else None
    back = item.right.get("self_agreement", implied)
    reading = _reading(item.caption, reread, back, "caption given back", "caption not given back")
    own = [Verdict(f"{verdict.text} (self-agreement, {NOT_INDEPENDENT.split(':')[0]})", None) for verdict in reading.verdicts]
    trip = [] if whole is None else [Verdict("round trip right" if whole else "round trip wrong", whole)]
    return attrs.evolve(reading, verdicts=[*trip, *drawn, *own])
