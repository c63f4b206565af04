"""The tokenizer `pretrained`. Torch-free."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import tokenizers

from ibllm.plugin import EOS, SPECIAL, UNK, Context, Tokenizer, find_folder
from ibllm_pretrained.config import NEEDED, PretrainedTokenizerConfig

#: The names that our four special ids may have among a model's, in the order of preference.
ROLES = {
    "padding": ("pad_token", "eos_token"),
    "beginning": ("cls_token", "bos_token", "eos_token"),
    "end": ("sep_token", "eos_token"),
    "unknown": ("unk_token", "eos_token"),
}


@attrs.frozen
class Vocabulary:
    """A model's tokenizer, and the map between its ids and ours.

    Attributes:
        coder: gives the model's ids.
        special: the model's ids of padding, beginning, end and unknown, which may coincide.
        model_ids: our id → the model's: first the special ones, then all others in the model's order, those that stand for no token included.
        model: the model's configuration (config.json), so that it can be built again without its folder.
        begins: the model has a token for the beginning of a text; the end stands for it where it has none.
        chat: the template of its conversations (Jinja), and the special tokens by name that it may name; empty where it has none.
    """

    coder: tokenizers.Tokenizer
    special: tuple[int, ...]
    model_ids: tuple[int, ...]
    model: Mapping[str, Any]
    begins: bool = True
    chat: Mapping[str, str] = attrs.field(factory=dict)

    @cached_property
    def repeated(self) -> tuple[int, ...]:
        """Our special ids that stand for the same as another one: the end comes first, since texts end with it."""
        kept = {self.special[EOS]: EOS}
        for own, model_id in enumerate(self.special):
            kept.setdefault(model_id, own)
        return tuple(own for own, model_id in enumerate(self.special) if kept[model_id] != own)

    def marked_up(self, text: str) -> list[int]:
        """The model's ids of a text in which special tokens are spelt out, as a chat template writes it."""
        self.coder.encode_special_tokens = False
        try:
            return list(self.coder.encode(text, add_special_tokens=False).ids)
        finally:
            self.coder.encode_special_tokens = True

    @cached_property
    def own_ids(self) -> dict[int, int]:
        """The model's id → ours; its special ids are unknown in the midst of a text."""
        found = dict.fromkeys(self.special, UNK)
        return found | {model_id: own for own, model_id in enumerate(self.model_ids) if own >= len(SPECIAL)}


def vocabulary(
    coder: tokenizers.Tokenizer,
    special: Sequence[int],
    model: Mapping[str, Any],
    begins: bool = True,
    chat: Mapping[str, str] | None = None,
) -> Vocabulary:
    # Its folder may say to fill up every text to one length, and a text that spells "[PAD]" is text.
    coder.no_padding()
    coder.no_truncation()
    coder.encode_special_tokens = True
    # A model may have more ids than tokens, for speed; what it says of them has its share of probability.
    known = {*coder.get_vocab(with_added_tokens=True).values(), *range(int(model.get("vocab_size") or 0))}
    return Vocabulary(coder, tuple(special), (*special, *sorted(known - set(special))), model, begins, dict(chat or {}))


def read(folder: Path) -> Vocabulary:
    """The vocabulary of a model's folder. Raises `ValueError` where a special token is missing."""
    names: dict[str, str] = {}
    template = ""
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / file).is_file():
            said = json.loads((folder / file).read_text(encoding="utf-8"))
            template = _template(said.get("chat_template")) or template
            for name, value in said.items():
                text = value.get("content") if isinstance(value, dict) else value
                if name.endswith("_token") and isinstance(text, str):
                    names[name] = text
    if (folder / "chat_template.jinja").is_file():
        template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    coder = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    special = []
    for role, candidates in ROLES.items():
        ids = [coder.token_to_id(names[name]) for name in candidates if name in names]
        found = next((i for i in ids if i is not None), None)
        if found is None:
            raise ValueError(f"{folder} has no token for {role}: expected {' or '.join(candidates)} in special_tokens_map.json")
        special.append(found)
    begins = any(coder.token_to_id(names[name]) is not None for name in ROLES["beginning"][:2] if name in names)
    chat = {"template": template, **names} if template else {}
    return vocabulary(coder, special, json.loads((folder / "config.json").read_text(encoding="utf-8")), begins, chat)


def _template(said: Any) -> str:
    """A chat template as tokenizer_config.json gives it: itself, or a list of them by name."""
    if isinstance(said, list):
        return next((str(one.get("template", "")) for one in said if one.get("name") == "default"), "")
    return said if isinstance(said, str) else ""


class PretrainedTokenizer(Tokenizer):
    """A model's own tokens under our numbering: 0 padding, 1 beginning ([CLS]), 2 end ([SEP]), 3 unknown, then the others.

    The vocabulary is read when it is first asked for: a saved one needs no folder.

    Attributes:
        restored: it is a saved one, so weights are saved, too.
    """

    def __init__(self, config: PretrainedTokenizerConfig, context: Context) -> None:
        self.config, self.max_length = config, config.max_length
        self._vocabulary: Vocabulary | None = None
        self.restored = False

    @property
    def vocabulary(self) -> Vocabulary:
        """Raises `ValueError` where the folder is missing or lacks something."""
        if self._vocabulary is None:
            self._vocabulary = read(find_folder(self.config.model, NEEDED))
        return self._vocabulary

    @property
    def folder(self) -> Path | None:
        """The model's folder, or None where it is gone and this is a saved tokenizer. Raises `ValueError` where it is gone and needed."""
        try:
            return find_folder(self.config.model, NEEDED)
        except ValueError:
            if self.restored:
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
        text = unicodedata.normalize("NFC", text)  # most models' own rules do so, too
        return [own_ids[model_id] for model_id in self.vocabulary.coder.encode(text, add_special_tokens=False).ids]

    def decode_one(self, ids: Sequence[int]) -> str:
        text: str = self.vocabulary.coder.decode([self.vocabulary.model_ids[own] for own in ids], skip_special_tokens=False)
        return text

    def state(self) -> str:
        kept = self.vocabulary
        told = {"special": kept.special, "model": kept.model, "begins": kept.begins, "chat": kept.chat}
        return json.dumps({**told, "tokenizer": json.loads(kept.coder.to_str())}, ensure_ascii=False)

    def restore(self, state: str) -> None:
        kept = json.loads(state)
        coder = tokenizers.Tokenizer.from_str(json.dumps(kept["tokenizer"]))
        self._vocabulary = vocabulary(coder, kept["special"], kept["model"], kept.get("begins", True), kept.get("chat"))
        self.restored = True
