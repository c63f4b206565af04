"""Rules as a loss. Shapes: b batch, g choices of objects, k objects, t tokens, v vocabulary."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from ibllm.plugin import Context, Cycle, Latent, Loss, Tokens, UserError
from ibllm_logic.config import RulesLossConfig
from ibllm_logic.diagrams import compiled
from ibllm_logic.formulas import Atom, Drawn, Has, Named, Related, Rule
from ibllm_logic.readers import CaptionerReading, Probe, Seen
from ibllm_logic.reading import Said, TokenReader, Vocabulary
from ibllm_logic.semantics import loss_of, lukasiewicz, product, weight
from ibllm_logic.worlds import pairs

Satisfied = Callable[[Mapping[Atom, Tensor]], Tensor]


class RulesLoss(Loss):
    """The mean, over items, of how far the rules are from being satisfied by what is seen of the objects that captions name.

    Of an item it is the mean over rules of the mean over choices of objects; choices of which the reader says nothing do not count. Through a drawn
    image gradients reach whatever drew it; the probe itself learns from real images alone, or it would learn to see what the rules want.
    """

    def __init__(self, config: RulesLossConfig, context: Context) -> None:
        super().__init__()
        self.config, self.rules = config, config.rules()
        self.vocabulary = Vocabulary(self.rules)
        self.satisfied = [self._semantics(rule) for rule in self.rules.rules]
        self.probe = Probe(self.vocabulary, context.latents["image_encoder"], config.width) if config.reader == "probe" else None
        #: Tokenizer and device → what reads their tokens.
        self._readers: dict[tuple[int, str], tuple[TokenReader, CaptionerReading]] = {}

    def _semantics(self, rule: Rule) -> Satisfied:
        if self.config.semantics == "semantic":
            diagram = compiled(rule.formula, rule.place)
            return lambda p: weight(diagram, p)
        return lambda p: {"product": product, "lukasiewicz": lukasiewicz}[self.config.semantics](rule.formula, p)

    def forward(self, cycle: Cycle) -> Tensor:
        text, part = (cycle.x_out, "text_decoder") if "text_decoder" in cycle.model.parts else (cycle.x, "text_encoder")
        reader, captioner = self._reader(cycle, part)
        said = reader(text.ids)
        cycle.log("objects_beyond", said.beyond.float().mean())
        value = torch.zeros((), device=cycle.model.device)
        for images in self.config.images:
            z = cycle.z_fake if images == "drawn" else cycle.z_y
            seen = (
                self._seen_by_probe(z, said, images) if self.probe is not None else self._seen_by_captioner(cycle, z, text, said, captioner)
            )
            value = value + self._unsatisfied(cycle, seen, images).mean()
        if self.probe is not None and self.config.supervision:
            told = self.probe.supervision(self.probe(cycle.z_y, said), said).mean()
            cycle.log("supervision", told)
            value = value + self.config.supervision * told
        return value

    def _reader(self, cycle: Cycle, part: str) -> tuple[TokenReader, CaptionerReading]:
        tokenizer, device = cycle.model.tokenizers[part], cycle.model.device
        key = (id(tokenizer), str(device))
        if key not in self._readers:
            made = TokenReader(self.vocabulary, tokenizer, self.config.objects, device)
            self._readers[key] = made, CaptionerReading(self.vocabulary, tokenizer, device)
        return self._readers[key]

    def _seen_by_captioner(self, cycle: Cycle, z: Latent, text: Tokens, said: Said, reading: CaptionerReading) -> Seen:
        if cycle.batch.language is not None:
            raise UserError("rules: the captioner is told languages, and rules are of one: expected model.text_decoder.languages = []")
        decoder = cast(Any, cycle.model.part("text_decoder"))
        logits = cycle.through("text_decoder", "rules", lambda: decoder.logits(text.ids, text.mask, z), z)
        return reading(logits, text.ids, said)

    def _seen_by_probe(self, z: Latent, said: Said, images: str) -> Seen:
        assert self.probe is not None
        if images == "real":
            return self.probe.seen(self.probe(z, said), said)
        fixed = {name: parameter.detach() for name, parameter in self.probe.named_parameters()}
        return self.probe.seen(torch.func.functional_call(self.probe, fixed, (z, said)), said)

    def _unsatisfied(self, cycle: Cycle, seen: Seen, images: str) -> Tensor:
        """(b)."""
        losses = []
        for rule, satisfied in zip(self.rules.rules, self.satisfied, strict=True):
            p, known = self._atoms(rule, seen)
            if not p:
                continue
            found, applies = satisfied(p), known.to(torch.float32)
            count = applies.sum(1).clamp(min=1)
            losses.append((loss_of(found, self.config.semantics) * applies).sum(1) / count)
            name = re.sub(r"\W+", "_", rule.name).strip("_")
            cycle.log(f"{name}/{images}", ((found.float() * applies).sum() / applies.sum().clamp(min=1)))
        return torch.stack(losses, 1).mean(1) if losses else torch.zeros(len(seen.present), device=seen.present.device)

    def _atoms(self, rule: Rule, seen: Seen) -> tuple[dict[Atom, Tensor], Tensor]:
        """Of every choice of objects: atom → (b g), and (b g) whether it counts."""
        chosen = list(pairs(seen.present.shape[1], len(rule.variables)))
        if not chosen:
            return {}, seen.present
        of = {variable: [one[n] for one in chosen] for n, variable in enumerate(rule.variables)}

        def objects(tensor: Tensor, variable: str) -> Tensor:
            """(b k …) → (b g …)."""
            return torch.stack([tensor[:, k] for k in of[variable]], 1)

        known = torch.stack([objects(seen.present, variable) for variable in rule.variables]).all(0)
        p: dict[Atom, Tensor] = {}
        for atom in rule.formula.atoms():
            match atom:
                case Has(kind, word, variable):
                    p[atom] = objects(seen.words[..., self.vocabulary.numbers[kind, word]], variable)
                    known = known & objects(seen.known[..., self.vocabulary.classes.index(kind)], variable)
                case Related(name, one, other):
                    number, sides = self.vocabulary.relations.index(name), list(zip(of[one], of[other], strict=True))
                    p[atom] = torch.stack([seen.related[:, number, a, b] for a, b in sides], 1)
                    known = known & torch.stack([seen.relations_known[:, a, b] for a, b in sides], 1)
                case Named(variable):
                    p[atom] = objects(seen.present, variable).to(seen.words.dtype)
                case Drawn(variable):
                    p[atom] = objects(seen.drawn, variable)
        return p, known
