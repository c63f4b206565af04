"""A text that comes again is not read again. Torch-free."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from ibllm.plugin import Tokenizer

#: Texts that are remembered, and the longest of them in characters: some tens of megabytes at most.
TEXTS, CHARACTERS = 65_536, 512


class Remembering(Tokenizer):
    """Reads the texts of a batch together, and each of them once, as long as the vocabulary stays (`forget`)."""

    def __init__(self) -> None:
        self._remembered: dict[str, tuple[int, ...]] = {}

    def forget(self) -> None:
        """The vocabulary is another one."""
        self._remembered = {}  # a new one: a batch that another thread reads has its own still

    @abstractmethod
    def read(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        """The ids of some texts, without beginning or end."""

    def encode_one(self, text: str) -> Sequence[int]:
        return self.read([text])[0]

    def encode_each(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        remembered, room = self._remembered, self.max_length - 2
        known = {text: remembered.get(text) for text in texts}
        unknown = [text for text, ids in known.items() if ids is None]
        for text, ids in zip(unknown, self.read(unknown) if unknown else (), strict=True):
            known[text] = row = tuple(ids[:room])
            if len(text) <= CHARACTERS:
                remembered[text] = row
        if len(remembered) > TEXTS:
            remembered.clear()
        return [known[text] or () for text in texts]
