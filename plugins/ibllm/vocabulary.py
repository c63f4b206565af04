"""Words of what is measured that a model's tokenizers have no id for: they were in no text that the vocabulary was made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ibllm_core.interfaces.dataset import Dataset
from ibllm_core.interfaces.tokenizer import UNK, Tokenizer
from ibllm_core.training.events import Listener, Prepared

#: Words that are named.
SHOWN = 8


class Vocabulary(Listener):
    """Tells before a run which of the words that it will be measured on its model cannot know."""

    def on_prepared(self, event: Prepared) -> None:
        session, plan = event.session, event.session.recipe.evaluation
        for text in told(session.dataset, session.model.tokenizers, plan.splits, plan.items):
            session.tell(text)


def told(dataset: Dataset, tokenizers: Mapping[str, Tokenizer], splits: Iterable[str], items: int) -> list[str]:
    """A sentence for each split whose first `items` texts have words that a tokenizer lacks."""
    found = []
    for split in splits:
        texts = list(dict.fromkeys(dataset.corpus(split, items))) if tokenizers else []
        for words, users in _lacking(texts, tokenizers).items():
            more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
            named = ", ".join(words[:SHOWN]) + more
            said = "1 word is" if len(words) == 1 else f"{len(words)} words are"
            found.append(f"split {split}: {said} not in the vocabulary of {', '.join(users)}, so nothing can be known of them: {named}")
    return found


def _lacking(texts: Iterable[str], tokenizers: Mapping[str, Tokenizer]) -> dict[tuple[str, ...], list[str]]:
    """The words that some tokenizer has no id for → the parts that use it."""
    seen: dict[int, tuple[str, ...]] = {}
    found: dict[tuple[str, ...], list[str]] = {}
    for part, tokenizer in ((part, one) for part, one in tokenizers.items() if part != "language"):
        if id(tokenizer) not in seen:
            seen[id(tokenizer)] = unknown(texts, tokenizer)
        if seen[id(tokenizer)]:
            found.setdefault(seen[id(tokenizer)], []).append(part)
    return found


def unknown(texts: Iterable[str], tokenizer: Tokenizer) -> tuple[str, ...]:
    """The words of some texts that a tokenizer has no id for, in order; where it knows them all, the marks."""
    affected = [text for text in texts if UNK in tokenizer.encode_one(text)]

    def lacking(pieces: str) -> tuple[str, ...]:
        found = dict.fromkeys(piece for text in affected for piece in re.findall(pieces, text))
        return tuple(sorted(piece for piece in found if UNK in tokenizer.encode_one(piece)))

    return lacking(r"\w+") or lacking(r"[^\w\s]")
