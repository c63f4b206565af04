"""The tokenizer `pretrained`. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import tokenizers

from ibllm.plugin import SPECIAL, UNK, Context, Tokenizer
from ibllm_pretrained.config import PretrainedTokenizerConfig
from ibllm_pretrained.local_model import find_folder

#: The names that our four special ids may have among a model's, in the order of preference.
ROLES = {
    "padding": ("pad_token", "eos_token"),
    "beginning": ("cls_token", "bos_token"),
    "end": ("sep_token", "eos_token"),
    "unknown": ("unk_token", "eos_token"),
}


@attrs.frozen
class Vocabulary:
    """A model's tokenizer, and the map between its ids and ours.

    Attributes:
        coder: gives the model's ids.
        special: the model's ids of padding, beginning, end and unknown, which may coincide.
        theirs: our id → the model's: first the special ones, then all others in the model's order.
        model: the model's configuration (config.json), so that it can be built again without its folder.
    """

    coder: tokenizers.Tokenizer
    special: tuple[int, ...]
    model_ids: tuple[int, ...]
    model: Mapping[str, Any]

    @cached_property
    def own_ids(self) -> dict[int, int]:
        """The model's id → ours; its special ids are unknown in the midst of a text."""
        found = dict.fromkeys(self.special, UNK)
        return found | {model_id: own for own, model_id in enumerate(self.model_ids) if own >= len(SPECIAL)}


def vocabulary(coder: tokenizers.Tokenizer, special: Sequence[int], model: Mapping[str, Any]) -> Vocabulary:
    # Its folder may say to fill up every text to one length, and a text that spells "[PAD]" is text.
    coder.no_padding()
    coder.no_truncation()
    coder.encode_special_tokens = True
    others = sorted(set(coder.get_vocab(with_added_tokens=True).values()) - set(special))
    return Vocabulary(coder, tuple(special), (*special, *others), model)


def read(folder: Path) -> Vocabulary:
    """The vocabulary of a model's folder. Raises `ValueError` where a special token is missing."""
    names: dict[str, str] = {}
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / file).is_file():
            for name, value in json.loads((folder / file).read_text(encoding="utf-8")).items():
                text = value.get("content") if isinstance(value, dict) else value
                if name.endswith("_token") and isinstance(text, str):
                    names[name] = text
    coder = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    special = []
    for role, candidates in ROLES.items():
        ids = [coder.token_to_id(names[name]) for name in candidates if name in names]
        found = next((i for i in ids if i is not None), None)
        if found is None:
            raise ValueError(f"{folder} has no token for {role}: expected {' or '.join(candidates)} in special_tokens_map.json")
        special.append(found)
    return vocabulary(coder, special, json.loads((folder / "config.json").read_text(encoding="utf-8")))


class PretrainedTokenizer(Tokenizer):
    """A model's own tokens under our numbering: 0 padding, 1 beginning ([CLS]), 2 end ([SEP]), 3 unknown, then the others.

    The vocabulary is read when it is first asked for: a saved one needs no folder.
    """

    def __init__(self, config: PretrainedTokenizerConfig, context: Context) -> None:
        self.config, self.max_length = config, config.max_length
        self._vocabulary: Vocabulary | None = None
        self._restored = False

    @property
    def vocabulary(self) -> Vocabulary:
        """Raises `ValueError` where the folder is missing or lacks something."""
        if self._vocabulary is None:
            self._vocabulary = read(find_folder(self.config.model))
        return self._vocabulary

    @property
    def folder(self) -> Path | None:
        """The model's folder, or None where it is gone and this is a saved tokenizer. Raises `ValueError` where it is gone and needed."""
        try:
            return find_folder(self.config.model)
        except ValueError:
            if self._restored:
                return None
            raise

    @property
    def size(self) -> int:  # type: ignore[override]
        """Number of ids: the model's, and up to three more where its special tokens coincide."""
        return len(self.vocabulary.model_ids)

    def train(self, texts: Sequence[str]) -> None:
        """Learns nothing; the folder must be there."""
        assert len(self.vocabulary.model_ids) == self.size

    def encode_one(self, text: str) -> list[int]:
        own_ids = self.vocabulary.own_ids
        return [own_ids[model_id] for model_id in self.vocabulary.coder.encode(text, add_special_tokens=False).ids]

    def decode_one(self, ids: Sequence[int]) -> str:
        text: str = self.vocabulary.coder.decode([self.vocabulary.model_ids[own] for own in ids], skip_special_tokens=False)
        return text

    def state(self) -> str:
        kept = self.vocabulary
        return json.dumps({"special": kept.special, "model": kept.model, "tokenizer": json.loads(kept.coder.to_str())}, ensure_ascii=False)

    def restore(self, state: str) -> None:
        kept = json.loads(state)
        coder = tokenizers.Tokenizer.from_str(json.dumps(kept["tokenizer"]))
        self._vocabulary, self._restored = vocabulary(coder, kept["special"], kept["model"]), True
