"""The tokenizer `bpe`. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from ibllm.plugin import SPECIAL, Context
from ibllm_tokenizers.config import BPEConfig
from ibllm_tokenizers.remembering import Remembering


class BPETokenizer(Remembering):
    """Byte-level byte-pair encoding: every text of any script can be written, and comes back byte by byte, in NFC."""

    def __init__(self, config: BPEConfig, context: Context) -> None:
        super().__init__()
        self.config, self.size, self.max_length = config, config.size, config.max_length
        self._coder: tokenizers.Tokenizer | None = None

    @property
    def coder(self) -> tokenizers.Tokenizer:
        assert self._coder is not None, "the tokenizer has not been trained"
        return self._coder

    def _take(self, coder: tokenizers.Tokenizer) -> None:
        coder.encode_special_tokens = True  # a text that spells "<pad>" is text
        self._coder = coder
        self.forget()

    def train(self, texts: Sequence[str]) -> None:
        coder = tokenizers.Tokenizer(models.BPE())
        coder.normalizer = normalizers.NFC()  # the state says so, and one from before it goes on without
        coder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        coder.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.size,
            min_frequency=self.config.min_count,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        coder.train_from_iterator(texts, trainer)
        self._take(coder)

    def read(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        return [found.ids for found in self.coder.encode_batch(list(texts), add_special_tokens=False)]

    def decode_one(self, ids: Sequence[int]) -> str:
        text: str = self.coder.decode(list(ids), skip_special_tokens=False)
        return text

    def state(self) -> str:
        text: str = self.coder.to_str()
        return text

    def restore(self, state: str) -> None:
        coder = tokenizers.Tokenizer.from_str(state)
        if coder.get_vocab_size() > self.size:
            raise ValueError(f"the saved vocabulary needs size = {coder.get_vocab_size()}, not {self.size}")
        self._take(coder)
