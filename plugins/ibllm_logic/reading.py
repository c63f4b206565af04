"""What captions say of objects, as tensors: the words of the rules are found on the device, so that no training waits for it.

Shapes: b batch, t tokens, k objects, c classes, w words of all classes, f phrases of relations, r relations.
"""

from __future__ import annotations

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from ibllm.plugin import Phrases, Tokenizer, spellings
from ibllm_logic.formulas import Rules


@attrs.frozen
class Said:
    """What b texts say.

    Attributes:
        present: (b k) whether there is an object.
        words: (b k w) whether it has the word.
        starts: (b k c) the token at which its word of a class begins; 0 where nothing is said of it.
        phrases: (b k f) whether the phrase stands between it and the object before it.
        phrase_starts: (b k) the token at which that begins; 0 where there is none.
        beyond: (b) objects that there was no room for.
    """

    present: Tensor
    words: Tensor
    starts: Tensor
    phrases: Tensor
    phrase_starts: Tensor
    beyond: Tensor


class Vocabulary:
    """Numbers of the rules' words and relations, and their tokens.

    Attributes:
        words: (class, word), those of a class one after the other.
        phrases: (relation, whether it is turned round), one for each phrase.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.classes = list(rules.classes)
        self.words = [(kind, word) for kind, one in rules.classes.items() for word in one.words]
        self.of = torch.tensor([self.classes.index(kind) for kind, _ in self.words])
        self.noun = self.classes.index(rules.nouns)
        self.relations = list(rules.relations)
        self.phrases = [
            (name, turned, form)
            for name, one in rules.relations.items()
            for turned, forms in ((0, one.phrases), (1, one.turned))
            for form in forms
        ]
        self.numbers = {(kind, word): n for n, (kind, word) in enumerate(self.words)}

    def slices(self) -> dict[str, slice]:
        """Class → where its words are among all."""
        found, start = {}, 0
        for kind, one in self.rules.classes.items():
            found[kind] = slice(start, start + len(one.words))
            start += len(one.words)
        return found


class TokenReader:
    """Reads what `ibllm_logic.worlds.TextReader` reads, of tokens."""

    def __init__(self, vocabulary: Vocabulary, tokenizer: Tokenizer, objects: int, device: torch.device) -> None:
        rules, self.vocabulary, self.objects = vocabulary.rules, vocabulary, objects
        forms = {
            form: vocabulary.numbers[kind, word] for kind, one in rules.classes.items() for word, all_ in one.words.items() for form in all_
        }
        forms |= {form: len(vocabulary.words) + n for n, (*_, form) in enumerate(vocabulary.phrases)}
        self.phrases = Phrases(forms, tokenizer)
        total = len(vocabulary.words) + len(vocabulary.phrases)
        #: Forms that the tokenizer cannot spell, so that no text has them.
        self.unknown = [form for form, number in forms.items() if number not in self.phrases.known]
        self.phrases.onto(device)
        self.total = total

    def __call__(self, ids: Tensor) -> Said:
        """ids (b t)."""
        vocabulary, k = self.vocabulary, self.objects
        w, f = len(vocabulary.words), len(vocabulary.phrases)
        number, _ = self.phrases(ids)
        marks = F.one_hot(number + 1, self.total + 1)[..., 1:]  # (b t w+f)
        words, phrases = marks[..., :w], marks[..., w:]
        by_class = torch.stack([words[..., part].sum(-1) for part in vocabulary.slices().values()], -1)  # (b t c)
        nouns = by_class[..., vocabulary.noun]
        before = nouns.cumsum(1) - nouns  # nouns before a token
        after = [one.after for one in vocabulary.rules.classes.values()]
        places = torch.arange(ids.shape[1], device=ids.device)
        slots = torch.arange(k, device=ids.device)
        # Of each token the object that it belongs to, if it is a word: the next one, or the last.
        next_one = before.unsqueeze(-1) == slots
        last_one = (before - 1).unsqueeze(-1) == slots
        held, starts = [], []
        for n, part in enumerate(vocabulary.slices().values()):
            belongs = (last_one if after[n] else next_one).to(words.dtype)
            held.append(torch.einsum("btk,btw->bkw", belongs.float(), words[..., part].float()) > 0)
            said = belongs * by_class[..., n : n + 1]
            starts.append((said * places[:, None]).amax(1))
        total = nouns.sum(1, keepdim=True)
        present = slots < total
        between = next_one.to(words.dtype)
        found = torch.einsum("btk,btf->bkf", between.float(), phrases.float()) > 0
        phrase_starts = (between * phrases.sum(-1, keepdim=True) * places[:, None]).amax(1)
        real = present.unsqueeze(-1)
        follows = real & (slots > 0)[:, None]  # before the first object there is none
        return Said(
            present,
            torch.cat(held, -1) & real,
            torch.stack(starts, -1) * real,
            (found if f else found.new_zeros(len(ids), k, 0)) & follows,
            phrase_starts * follows.squeeze(-1),
            (total.squeeze(1) - k).clamp(min=0),
        )


def spelled(form: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens of a word within a text; empty where it cannot be spelled."""
    found = spellings(form, tokenizer)
    return found[-1] if found else ()
