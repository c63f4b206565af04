"""Masked language modelling. Shapes: b batch, t tokens, d latent width, v vocabulary."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import SPECIAL, Context, Cycle, Loss, Tokens, UserError, Value, at_least_float32
from ibllm_selfsupervised.config import MaskedTextConfig
from ibllm_selfsupervised.word_masking import replace_words, word_mask


class MaskedText(Loss):
    """−E log p(word | the text without it), the masked language model of Devlin et al. 2019 (BERT, section 3.1), in nats a word.

    `ratio` of the words are chosen, at least one a text; most of them are read as <unk>, some as a random word, some as they are. The
    unknown word stands for BERT's mask token: it needs no parameter of its own, and the encoder learns to read around it.
    """

    def __init__(self, config: MaskedTextConfig, context: Context) -> None:
        super().__init__()
        self.config, self.vocabulary = config, context.vocabularies["text_encoder"]
        if self.vocabulary <= len(SPECIAL):
            raise ValueError(
                f"the text encoder's tokenizer has size = {self.vocabulary}: expected more than {len(SPECIAL)}, or there is no word"
            )
        width = context.latents["text_encoder"]
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, self.vocabulary))

    def chosen(self, cycle: Cycle) -> Tensor:
        """(b t) bool, the words that are to be predicted."""
        candidates = word_mask(cycle.texts)
        chance = cycle.rng("masked_text").fold("chosen").uniform(candidates.shape[1]).masked_fill(~candidates, torch.inf)
        return candidates & ((chance < self.config.ratio) | (chance == chance.amin(1, keepdim=True)))

    def corrupted(self, cycle: Cycle, chosen: Tensor) -> Tokens:
        """The texts as the encoder is to read them."""
        rng, tokens, t = cycle.rng("masked_text"), cycle.texts, chosen.shape[1]
        kind = rng.fold("kind").uniform(t)
        swapped = chosen & (kind >= self.config.unknown) & (kind < self.config.unknown + self.config.random)
        others = rng.fold("others").integers(self.vocabulary - len(SPECIAL), t) + len(SPECIAL)
        return replace_words(Tokens(torch.where(swapped, others, tokens.ids), tokens.mask), chosen & (kind < self.config.unknown))

    def count(self, cycle: Cycle) -> Tensor:
        return self.chosen(cycle).sum()

    def forward(self, cycle: Cycle) -> Value:
        chosen = self.chosen(cycle)
        z = cycle.model.part("text_encoder")(self.corrupted(cycle, chosen))
        if z.tokens.shape[1] != chosen.shape[1]:
            raise UserError(
                f"masked_text: the text encoder gives {z.tokens.shape[1]} latent places for {chosen.shape[1]} tokens, not one each"
            )
        logits = at_least_float32(self.head(z.tokens))
        losses = F.cross_entropy(logits.transpose(1, 2), cycle.texts.ids, reduction="none")
        return (losses * chosen).sum(), chosen.sum()
