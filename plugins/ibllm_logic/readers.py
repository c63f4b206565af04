"""Whose probabilities rules are about: the captioner's, or a probe's.

Shapes: b batch, t tokens, v vocabulary, k objects, c classes, w words of all classes, r relations, n latent places, d latent width, e probe width.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import torch
from torch import Tensor, nn

from ibllm.plugin import Attention, Latent, Tokenizer, at_least_float32, on_device
from ibllm_logic.reading import Said, Vocabulary, spelled


@attrs.frozen
class Seen:
    """What is seen in images of the objects that their texts name.

    Attributes:
        words: (b k w) probability that the object has the word.
        known: (b k c) whether it says something of the class.
        related: (b r k k) probability that the row's object has the relation to the column's.
        relations_known: (b k k) whether it says something of these two.
        drawn: (b k) probability that the object is there with all that the text says of it.
        present: (b k) whether there is such an object.
    """

    words: Tensor
    known: Tensor
    related: Tensor
    relations_known: Tensor
    drawn: Tensor
    present: Tensor


def said_classes(said: Said, vocabulary: Vocabulary) -> Tensor:
    """(b k c) whether something is said of the class."""
    return torch.stack([said.words[..., part].any(-1) for part in vocabulary.slices().values()], -1)


def all_of(probabilities: Tensor, said: Said, vocabulary: Vocabulary) -> Tensor:
    """(b k w) → (b k) the product over the words that the text says of an object."""
    return torch.where(said.words, probabilities, 1.0).prod(-1)


class CaptionerReading:
    """The captioner, handed the caption word by word: at a word's place its probability, and those of the others that might stand there.

    Of a word of several tokens that begins like the one that is said the first token counts in which they differ; several that do not differ up to there
    share its probability evenly.
    """

    def __init__(self, vocabulary: Vocabulary, tokenizer: Tokenizer, device: torch.device) -> None:
        self.vocabulary = vocabulary
        words = [spelled(word, tokenizer) for _, word in vocabulary.words]
        phrases = [spelled(form, tokenizer) for *_, form in vocabulary.phrases]
        parts = list(vocabulary.slices().values())
        self.tables = [tuple(on_device(one, device) for one in _choices(words[part])) for part in parts]
        self.phrase_table = tuple(on_device(one, device) for one in _choices(phrases)) if phrases else None

    def __call__(self, logits: Tensor, ids: Tensor, said: Said) -> Seen:
        """logits (b t v) of a captioner at each token of ids (b t): place t predicts token t + 1."""
        log_p = at_least_float32(logits[:, :-1]).log_softmax(-1)
        own = log_p.gather(-1, ids[:, 1:, None]).squeeze(-1)
        sums = torch.nn.functional.pad(own.cumsum(1), (1, 0))  # before token 1, 2, …
        parts, found = list(self.vocabulary.slices().values()), []
        for n, part in enumerate(parts):
            found.append(_chosen(log_p, sums, said.starts[..., n], said.words[..., part], self.tables[n]))
        words = torch.cat(found, -1)
        related, known = self._related(log_p, sums, said)
        classes = said_classes(said, self.vocabulary)
        return Seen(words, classes, related, known, all_of(words, said, self.vocabulary), said.present)

    def _related(self, log_p: Tensor, sums: Tensor, said: Said) -> tuple[Tensor, Tensor]:
        """Of two objects with a phrase between them, what else might stand there: one relation, or another one, from either side."""
        vocabulary, (b, k) = self.vocabulary, said.present.shape
        related = log_p.new_zeros(b, len(vocabulary.relations), k, k)
        known = torch.zeros(b, k, k, dtype=torch.bool, device=log_p.device)
        if self.phrase_table is None or k < 2:
            return related, known
        p = _chosen(log_p, sums, said.phrase_starts, said.phrases, self.phrase_table)  # (b k f)
        there = said.phrases.any(-1)[:, 1:]
        parts = []
        for name in vocabulary.relations:
            sides = []
            for turned in (0, 1):
                mine = [n for n, (relation, turn, _) in enumerate(vocabulary.phrases) if (relation, turn) == (name, turned)]
                sides.append(p[..., mine[0] : mine[-1] + 1].sum(-1)[:, 1:] if mine else p.new_zeros(b, k - 1))
            parts.append(torch.diag_embed(sides[0], 1) + torch.diag_embed(sides[1], -1))
        known = torch.diag_embed(there, 1) | torch.diag_embed(there, -1)
        return torch.stack(parts, 1), known


def _choices(spellings: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor, Tensor]:
    """Of the word said (row) and another one (column): how many tokens they share, the token after them, and between how many it is shared.

    A word that is said has all its tokens shared, and token −1 after them; one that cannot be spelled has token −2.
    """
    shared, token, between = [], [], []
    for one in spellings:
        row = []
        for other in spellings:
            same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
            row.append((same, -1 if one == other else -2 if same >= len(other) else other[same]))
        shared.append([same for same, _ in row])
        token.append([next_ for _, next_ in row])
        between.append([float(sum(other == mine for other in row)) for mine in row])
    return torch.tensor(shared), torch.tensor(token), torch.tensor(between)


def _chosen(log_p: Tensor, sums: Tensor, starts: Tensor, said: Tensor, table: tuple[Tensor, ...]) -> Tensor:
    """(b k w) probabilities of the words of a class at the place of the one that is said; zeros where none is."""
    shared, token, between = table
    row = said.float().argmax(-1)  # (b k)
    same, next_, among = shared[row], token[row], between[row]  # (b k w)
    first = (starts - 1).clamp(min=0).unsqueeze(-1)  # where the first token is predicted
    last = (first + same).clamp(max=log_p.shape[1] - 1)
    b, k, w = same.shape
    prefix = sums.gather(1, (first + same).clamp(max=sums.shape[1] - 1).flatten(1)).view(b, k, w) - sums.gather(1, first.flatten(1)).view(
        b, k, 1
    )
    # The row first, then the token: (b k w) numbers out of (b t·v).
    flat = (last * log_p.shape[-1] + next_.clamp(min=0)).flatten(1)
    other = log_p.flatten(1).gather(1, flat).view(b, k, w)
    value = prefix + torch.where(next_ >= 0, other, 0.0)
    p = value.exp() / among
    return torch.where(said.any(-1, keepdim=True) & (next_ != -2), p, 0.0)


class Probe(nn.Module):
    """Asks the image encoder's latent about each object that a text names: for each class a question made of what else the text says of it, so that it
    has to look; for two objects one made of both."""

    of: Tensor

    def __init__(self, vocabulary: Vocabulary, latent: int, width: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        classes, relations = len(vocabulary.classes), len(vocabulary.relations)
        self.words = nn.Parameter(torch.randn(len(vocabulary.words), width) * 0.5)
        #: The questions: of each class, and what an object is to others.
        self.questions = nn.Parameter(torch.randn(classes + bool(relations), width) * 0.5)
        self.attention = Attention(width, 4, latent)
        self.feed = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.answers = nn.Linear(width, len(vocabulary.words))
        self.two = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, relations)) if relations else None
        self.register_buffer("of", vocabulary.of.clone(), persistent=False)

    def forward(self, z: Latent, said: Said) -> tuple[Tensor, Tensor]:
        """(b k w) logits of words, (b r k k) of relations."""
        classes = len(self.vocabulary.classes)
        embedded = said.words.unsqueeze(-1) * self.words  # (b k w e)
        by_class = torch.stack([embedded[:, :, part].sum(2) for part in self.vocabulary.slices().values()], 2)
        whole = by_class.sum(2, keepdim=True)
        others = whole - by_class if self.two is None else torch.cat([whole - by_class, whole], 2)
        queries = others + self.questions  # (b k q e)
        b, k, q, _ = queries.shape
        found = self.attention(queries.flatten(1, 2), *self.attention.keys_values(z.tokens), z.mask).view(b, k, q, -1) + queries
        found = found + self.feed(found)
        logits = self.answers(found[:, :, :classes])  # (b k c w)
        words = torch.cat([logits[:, :, n, part] for n, part in enumerate(self.vocabulary.slices().values())], -1)
        if self.two is None:
            return words, words.new_zeros(b, 0, k, k)
        objects = found[:, :, classes]
        both = torch.cat([objects.unsqueeze(2).expand(-1, -1, k, -1), objects.unsqueeze(1).expand(-1, k, -1, -1)], -1)
        return words, self.two(both).permute(0, 3, 1, 2)

    def seen(self, logits: tuple[Tensor, Tensor], said: Said) -> Seen:
        """Each word and each relation is so or not, by itself."""
        words, related = (at_least_float32(one).sigmoid() for one in logits)
        known = said.present.unsqueeze(-1).expand(-1, -1, len(self.vocabulary.classes))
        two = said.present.unsqueeze(1) & said.present.unsqueeze(2)
        return Seen(words, known, related, two, all_of(words, said, self.vocabulary), said.present)

    def supervision(self, logits: tuple[Tensor, Tensor], said: Said) -> Tensor:
        """(b) −log p of what a caption says, in nats a statement: a word of a class that is said and none of its others; of two objects the relation that is
        said. What is not said is not known to be wrong: that is for rules to say."""
        words, related = (at_least_float32(one) for one in logits)
        told = said_classes(said, self.vocabulary)[..., self.of]
        of_words = nn.functional.binary_cross_entropy_with_logits(words, said.words.to(words.dtype), reduction="none") * told
        total, count = of_words.flatten(1).sum(1), told.flatten(1).sum(1)
        if self.two is not None:
            stated = stated_relations(said, self.vocabulary)
            total = total + (nn.functional.softplus(-related) * stated).flatten(1).sum(1)
            count = count + stated.flatten(1).sum(1)
        return total / count.clamp(min=1)


def stated_relations(said: Said, vocabulary: Vocabulary) -> Tensor:
    """(b r k k) whether the text says that the row's object has the relation to the column's."""
    parts = []
    for name in vocabulary.relations:
        sides = []
        for turned in (0, 1):
            mine = [n for n, (relation, turn, _) in enumerate(vocabulary.phrases) if (relation, turn) == (name, turned)]
            chosen = said.phrases[..., mine[0] : mine[-1] + 1] if mine else said.phrases[..., :0]
            sides.append(torch.diag_embed(chosen.any(-1)[:, 1:], 1 - 2 * turned))
        parts.append(sides[0] | sides[1])
    return torch.stack(parts, 1)
