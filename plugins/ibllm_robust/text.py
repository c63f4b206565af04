"""Attacks on texts: words that may stand for others, the nearest in the model's embedding, slips of a finger.

They ask the model for no gradient. Shapes: b batch, t tokens of a text, v vocabulary, e embedding width, n neighbours.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import attrs
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ibllm.plugin import Batch, Context, Cycle, Perturbation, TextEncoder, Tokens, UserError, at_least_float32, to_tokens
from ibllm_robust.config import NeighboursConfig, TextAttackConfig, TyposConfig, WordsConfig
from ibllm_robust.objectives import drawn, rows_of, still
from ibllm_robust.rewriting import Damage, Grammar, Proposals, misspelt, worst_texts

#: Texts that are tried in one pass.
_AT_ONCE = 256


class TextAttack(Perturbation):
    """The base of the attacks on texts; `rewritten` gives texts, `perturbed` a batch whose captions E_x reads otherwise."""

    def __init__(self, config: Any, context: Context) -> None:
        self.config: TextAttackConfig = config

    @abstractmethod
    def proposals(self, cycle: Cycle) -> Proposals:
        """What one change makes of a text."""

    def rewritten(self, cycle: Cycle, texts: Sequence[str]) -> list[str]:
        """The captions of a cycle's batch, `texts` (b), as the attack leaves them: the worst that it finds, by no more than its options' changes."""
        config = self.config
        with still(cycle.model), torch.no_grad():
            rng = cycle.rng("text attack")
            return worst_texts(texts, self.proposals(cycle), damage_of(cycle, config), rng, config.changes, config.candidates)

    def perturbed(self, cycle: Cycle) -> Batch:
        """The batch with the share of its captions that the options say rewritten, as E_x reads them; D_x writes the old ones where these are still meant."""
        if cycle.x.ids.is_meta:  # the walk before a run has no words
            return cycle.batch
        tokenizer, config = cycle.model.tokenizers["text_encoder"], self.config
        chosen = set(rows_of(cycle.batch.numbers, config.share))
        texts = tokenizer.decode(cycle.x.ids.cpu().numpy())
        new = self.rewritten(cycle, texts) if chosen else texts
        said = [after if row in chosen else before for row, (before, after) in enumerate(zip(texts, new, strict=True))]
        x = to_tokens(tokenizer, said).to(cycle.model.device)
        writer = cycle.model.tokenizers.get("text_decoder")
        if config.means == "own" and writer is not None:
            return attrs.evolve(cycle.batch, x=x, x_out=to_tokens(writer, said).to(cycle.model.device))
        return attrs.evolve(cycle.batch, x=x)


class Typos(TextAttack):
    """Slips of a finger (`ibllm_robust.rewriting.misspelt`)."""

    config: TyposConfig

    def proposals(self, cycle: Cycle) -> Proposals:
        return lambda text, row: misspelt(text)


class Words(TextAttack):
    """Words that may stand for others: those of the options' classes, or between the same two words of the texts that it learned from."""

    config: WordsConfig

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self._grammar = Grammar(config.classes) if config.classes else None

    def learn(self, texts: Iterable[str], fits: Callable[[str], bool]) -> None:
        """Learns from texts which words may stand for each other, unless the options say it; `fits` says whether a text is a sentence of the data."""
        self._grammar = Grammar(self.config.classes, fits) if self.config.classes else Grammar.of_texts(texts, fits)

    def proposals(self, cycle: Cycle) -> Proposals:
        grammar = self._grammar
        if grammar is None:
            raise UserError('which words may stand for others is not known: expected classes = [["red", "green"], …]')
        return lambda text, row: grammar.proposals(text)


class Neighbours(TextAttack):
    """Tokens whose embeddings are nearest by their cosine (Alzantot et al. 2018, "Generating Natural Language Adversarial Examples", section 3)."""

    config: NeighboursConfig

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self._fits: Callable[[str], bool] = lambda text: True

    def learn(self, texts: Iterable[str], fits: Callable[[str], bool]) -> None:
        """From now on only sentences of the data are proposed, as `fits` says."""
        self._fits = fits

    def proposals(self, cycle: Cycle) -> Proposals:
        tokenizer = cycle.model.tokenizers["text_encoder"]
        encoder = cast(TextEncoder, cycle.model.part("text_encoder"))
        words = [k for k in range(4, tokenizer.size) if _alone(tokenizer, k)]
        embedded = F.normalize(encoder.embed(torch.tensor([words], device=cycle.model.device))[0].float(), dim=-1)
        place = {word: k for k, word in enumerate(words)}

        def near(ids: Sequence[int]) -> dict[int, list[int]]:
            known = [k for k in dict.fromkeys(ids) if k in place]
            if not known:
                return {}
            alike = embedded[[place[k] for k in known]] @ embedded.T
            count = min(self.config.neighbours + 1, len(words))
            return {k: [words[i] for i in row if words[i] != k] for k, row in zip(known, alike.topk(count).indices.tolist(), strict=True)}

        def propose(text: str, row: int) -> list[str]:
            ids = list(tokenizer.encode_one(text))[: tokenizer.max_length - 2]
            nearest = near(ids)
            found = [tokenizer.decode_one([*ids[:k], other, *ids[k + 1 :]]) for k, one in enumerate(ids) for other in nearest.get(one, ())]
            return [text for text in found if self._fits(text)]

        return propose


def _alone(tokenizer: Any, token: int) -> bool:
    """Whether a token's text is read as that token again."""
    try:
        return list(tokenizer.encode_one(tokenizer.decode_one([token]))) == [token]
    except (IndexError, KeyError, ValueError):
        return False


def damage_of(cycle: Cycle, config: TextAttackConfig) -> Damage:
    """How bad texts are for the model, in the place of the captions of a cycle's batch; what is drawn by chance is keyed by the item."""
    model, batch = cycle.model, cycle.batch
    value = _DAMAGES[config.against]

    def read(part: str, texts: Sequence[str]) -> Tokens:
        return to_tokens(model.tokenizers[part], texts).to(model.device)

    def damage(texts: Sequence[str], rows: Sequence[int]) -> npt.NDArray[np.float64]:
        found = []
        for start in range(0, len(texts), _AT_ONCE):
            some, which = texts[start : start + _AT_ONCE], np.asarray(rows[start : start + _AT_ONCE])
            there = torch.from_numpy(which).to(model.device)
            said = attrs.evolve(batch.mapped(lambda values, there=there: values[there]), numbers=batch.numbers[which])  # type: ignore[misc]
            said = attrs.evolve(said, x=read("text_encoder", some), x_shift=None)
            if config.means == "own":
                said = attrs.evolve(said, x_out=read("text_decoder", some))
            found.append(value(cycle.of(said), config.space).double().cpu().numpy())
        return np.concatenate(found)

    return damage


def _drawing(cycle: Cycle, space: str) -> Tensor:
    """(b) −log p(image | text)."""
    return cycle.image_nll


def _cycle(cycle: Cycle, space: str) -> Tensor:
    """(b) −log p(text | its drawing)."""
    z = cycle.model.part("image_encoder")(drawn(cycle))
    return cast(Tensor, cycle.model.part("text_decoder")(cycle.x_out, z, cycle.batch.language))


def _agreement(cycle: Cycle, space: str) -> Tensor:
    """(b) −cosine of text and image in the common space of a loss."""
    learned: Any = cycle.losses.get(space)
    if not (hasattr(learned, "text_point") and hasattr(learned, "image_point")):
        raise UserError(
            f"space = {space!r} is no loss that learns a common space of texts and images: expected the name of one (contrastive, say)"
        )
    return -(at_least_float32(learned.text_point(cycle.z_x)) * learned.image_point(cycle.z_y)).sum(-1)


_DAMAGES: dict[str, Callable[[Cycle, str], Tensor]] = {"drawing": _drawing, "cycle": _cycle, "agreement": _agreement}
