"""What tokenizers are asked."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np

from ibllm_core.interfaces.tokenizer import BOS, EOS, PAD, SPECIAL, Tokenizer

from .checks import expect
from .dataset import SquaresDataset
from .suite import Suite

#: Texts that no corpus here holds, one of them spelling special ids.
STRANGE = ("a zebra 🦓, ünïcödé!", "<pad> <bos> <eos> <unk>", "红色的圆", "  two  spaces ", "")


class TokenizerSuite(Suite):
    """Text ↔ token numbers.

    Attributes:
        corpus: what it is trained on and must give back.
    """

    kind = "tokenizer"
    corpus: tuple[str, ...] = tuple(SquaresDataset().corpus()[:24])

    def trained(self) -> Any:
        """The component, trained on the corpus."""
        tokenizer = self.make()
        tokenizer.train(self.corpus)
        return tokenizer

    def test_it_is_a_tokenizer(self) -> None:
        """`size` and `max_length` are declared before any text is seen."""
        tokenizer = self.make()
        expect(isinstance(tokenizer, Tokenizer), f"{self._name}: its factory gives a {type(tokenizer).__name__}, no Tokenizer")
        well = tokenizer.size > len(SPECIAL) and tokenizer.max_length > 2
        expect(well, f"{self._name}: size = {tokenizer.size}, max_length = {tokenizer.max_length}: no room for a text")

    def test_its_corpus_comes_back(self) -> None:
        """Encoding and decoding gives every text of its corpus back, as it was."""
        tokenizer = self.trained()
        ids, _ = tokenizer.encode(self.corpus)
        back = tokenizer.decode(ids)
        lost = [(text, got) for text, got in zip(self.corpus, back, strict=True) if text != got]
        expect(not lost, f"{self._name}: {lost[:1]} did not come back")

    def test_ids_and_masks_are_as_declared(self) -> None:
        """ids (b t): beginning, text, end, padding, all below `size`; mask (b t) True where there is a token; texts hold no special id but unknown."""
        tokenizer = self.trained()
        ids, mask = tokenizer.encode([*self.corpus, *STRANGE])
        expect(
            ids.shape == mask.shape and ids.dtype == np.int64 and mask.dtype == np.bool_,
            f"{self._name}: ids are {ids.dtype} {ids.shape}, mask {mask.dtype} {mask.shape}",
        )
        expect(bool(ids.min() >= 0 and ids.max() < tokenizer.size), f"{self._name}: ids reach {ids.max()}, size is {tokenizer.size}")
        for row, kept in zip(ids.tolist(), mask.tolist(), strict=True):
            text = [i for i, keep in zip(row, kept, strict=True) if keep]
            framed = text[0] == BOS and text[-1] == EOS and all(i == PAD for i, keep in zip(row, kept, strict=True) if not keep)
            expect(framed, f"{self._name}: expected {BOS}, text, {EOS}, then {PAD}: got {row}")
            expect(
                not {PAD, BOS, EOS} & set(text[1:-1]), f"{self._name}: a text holds special ids: {row}; a text that spells <pad> is text"
            )

    def test_texts_are_cut_at_max_length(self) -> None:
        """Longer texts are cut, the end token kept."""
        tokenizer = self.trained()
        ids, mask = tokenizer.encode([" ".join(self.corpus * 4)])
        expect(
            ids.shape[1] == tokenizer.max_length,
            f"{self._name}: a long text has {ids.shape[1]} tokens, max_length is {tokenizer.max_length}",
        )
        expect(ids[0, -1] == EOS and bool(mask.all()), f"{self._name}: a text that is cut ends with {ids[0, -1]}, expected the end, {EOS}")

    def test_strange_texts_do_no_harm(self) -> None:
        """Any text can be encoded, any ids can be decoded."""
        tokenizer = self.trained()
        for text in STRANGE:
            expect(isinstance(tokenizer.decode(tokenizer.encode([text])[0])[0], str), f"{self._name}: {text!r} cannot be read back")
        every = np.arange(len(SPECIAL), tokenizer.size)[None]
        expect(isinstance(tokenizer.decode(every)[0], str), f"{self._name}: ids that its vocabulary does not use must be decoded too")

    def test_composed_and_decomposed_texts_are_the_same(self) -> None:
        """Texts are read in Unicode's normal form NFC, so that an accent is one whether it was typed as a mark of its own or not."""
        tokenizer = self.trained()
        (composed, _), (apart, _) = (tokenizer.encode([unicodedata.normalize(form, "café, ünïcödé")]) for form in ("NFC", "NFD"))
        expect(np.array_equal(composed, apart), f"{self._name}: a text in NFD is read differently from the same in NFC")

    def test_its_state_is_all_there_is(self) -> None:
        """A second one that takes the state back encodes and decodes the same."""
        tokenizer, other = self.trained(), self.make()
        other.restore(tokenizer.state())
        texts = [*self.corpus, *STRANGE]
        (ids, _), (again, _) = tokenizer.encode(texts), other.encode(texts)
        expect(np.array_equal(ids, again), f"{self._name}: restored from its state, it encodes differently")
        expect(other.decode(ids) == tokenizer.decode(ids), f"{self._name}: restored from its state, it decodes differently")
        expect(other.state() == tokenizer.state(), f"{self._name}: restored from its state, its state differs")

    def test_training_is_a_function_of_the_texts(self) -> None:
        """Trained twice on the same texts it is the same."""
        first, second = self.trained().state(), self.trained().state()
        expect(first == second, f"{self._name}: trained twice on the same texts, its state differs")
