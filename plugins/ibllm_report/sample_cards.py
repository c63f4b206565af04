"""Samples as the page shows them: what was drawn, what was read, and where a caption went wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from ibllm.figures import DRAWING, NOT_INDEPENDENT, READING, RETURNED, ROUND_TRIP, Mark
from ibllm.glossary import Glossary

from . import text_diff
from .files import Item

#: What is said where no metric judges a caption: other words may still be right, and that a caption came back is only the captioner's word.
_SAME = Mark("same", READING, "same words", "other words")
_SAME_BACK = Mark(
    "same", RETURNED, "same words", "other words", meaning="The captioner alone gives the caption back.", caution=NOT_INDEPENDENT
)


@attrs.frozen
class Verdict:
    """A judgement: right, wrong, or neither (None)."""

    text: str
    right: bool | None


@attrs.frozen(kw_only=True)
class Reading:
    """A caption read off an image, against its reference; the stretches that differ are marked unless the caption is known to be right."""

    reference: Sequence[text_diff.Segment]
    text: Sequence[text_diff.Segment]
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


def decks(samples: Mapping[str, Sequence[Item]], glossary: Glossary) -> list[Deck]:
    """One deck a split."""
    return [Deck(split=split, cards=[_card(item, glossary) for item in items]) for split, items in samples.items()]


def right_about(item: Item, about: str, glossary: Glossary) -> bool | None:
    """Whether all that a sample's marks judge of one thing is right; None where none judges it."""
    found = [right for mark, right in _marks(item, about, glossary) if not mark.caution]
    return all(found) if found else None


def used(samples: Iterable[Item], glossary: Glossary) -> dict[str, list[Mark]]:
    """What a mark is about → those that samples have, so that a page can say what they mean."""
    every = list(samples)
    marks = [glossary.marks.get(name, Mark(name)) for name in dict.fromkeys(name for item in every for name in item.right)]
    if any(item.reread is not None for item in every) and not any(mark.about == RETURNED for mark in marks):
        marks.append(_SAME_BACK)
    return {about: [mark for mark in marks if mark.about == about] for about in (DRAWING, READING, RETURNED, ROUND_TRIP)}


def _marks(item: Item, about: str, glossary: Glossary) -> list[tuple[Mark, bool]]:
    """A mark that nobody explains is taken to be about the drawing."""
    marks = ((glossary.marks.get(name, Mark(name)), right) for name, right in item.right.items())
    return [(mark, right) for mark, right in marks if mark.about == about]


def _verdicts(marks: Sequence[tuple[Mark, bool]], note: str = "") -> list[Verdict]:
    """Each mark in its words; one with a caution is said and not judged. `note` goes to those that are right."""
    found = []
    for mark, right in marks:
        text = (mark.right + note if right else mark.wrong) + (f" ({mark.caution.split(':')[0]})" if mark.caution else "")
        found.append(Verdict(text, None if mark.caution or (mark is _SAME and not right) else right))
    return found


def _card(item: Item, glossary: Glossary) -> Card:
    drawn = _verdicts(_marks(item, DRAWING, glossary))
    read = None if item.read is None else _reading(item.caption, item.read, _marks(item, READING, glossary), _SAME)
    trip = None if item.reread is None else _reading(item.caption, item.reread, _marks(item, RETURNED, glossary), _SAME_BACK)
    if trip is not None:
        # What was judged comes first; that the caption came back is only the captioner's word.
        trip = attrs.evolve(trip, verdicts=[*_verdicts(_marks(item, ROUND_TRIP, glossary)), *drawn, *trip.verdicts])
    return Card(item=item, drawn=drawn, read=read, trip=trip)


def _reading(reference: str | None, text: str, marks: Sequence[tuple[Mark, bool]], unmarked: Mark) -> Reading:
    expected, found = text_diff.compare(reference or "", text)
    same = not any(segment.differs for segment in (*expected, *found))
    verdicts = _verdicts(marks or [(unmarked, same)], "" if same else ", in other words")
    if marks and all(right for _, right in marks):
        expected, found = text_diff.plain(reference or ""), text_diff.plain(text)
    return Reading(reference=expected, text=found, verdicts=verdicts)
