"""Text ↔ numbers. Torch-free: ids and masks are numpy arrays; `ibllm_core.interfaces.text.Tokens` are the tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


class Tokenizer(ABC):
    """Strings ↔ ids. Sizes are declared before any data is seen, so that a model can be checked without data.

    The four special ids are fixed: 0 padding, 1 beginning, 2 end, 3 unknown.
    """

    #: Number of ids, as declared in the recipe. A trained vocabulary may use fewer, never more.
    size: int
    #: Longest sequence in tokens, beginning and end included; longer texts are cut (the end token is kept).
    max_length: int

    @abstractmethod
    def train(self, texts: Sequence[str]) -> None:
        """Learns the vocabulary. Raises `ValueError` if the texts need more than `size` ids and the tokenizer cannot do with fewer."""

    @abstractmethod
    def encode_one(self, text: str) -> Sequence[int]:
        """The ids of one text, without beginning or end."""

    def encode_each(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        """The ids of some texts, each as `encode_one` gives them, or of it as many as `max_length` leaves room for."""
        return [self.encode_one(text) for text in texts]

    @abstractmethod
    def decode_one(self, ids: Sequence[int]) -> str:
        """The text of ids that hold no special id."""

    @abstractmethod
    def state(self) -> str:
        """The trained vocabulary as text (JSON); `restore` takes it back."""

    @abstractmethod
    def restore(self, state: str) -> None:
        """Takes back what `state` gave."""

    def encode(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """ids (b t), mask (b t): beginning, text, end, padding; t is the longest of the batch."""
        rows = [[BOS, *ids[: self.max_length - 2], EOS] for ids in self.encode_each(texts)]
        longest = max((len(row) for row in rows), default=2)
        ids = np.full((len(rows), longest), PAD, dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.bool_)
        for n, row in enumerate(rows):
            ids[n, : len(row)] = row
            mask[n, : len(row)] = True
        return ids, mask

    def decode(self, ids: npt.NDArray[np.int64]) -> list[str]:
        """ids (b t) → b texts; a text ends at its first end token."""
        texts = []
        for row in ids.tolist():
            body = row[: row.index(EOS)] if EOS in row else row
            texts.append(self.decode_one([i for i in body if i not in (PAD, BOS)]))
        return texts
