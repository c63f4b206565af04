"""What text encoders and text decoders are asked."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from ibllm_core.interfaces.latent import Tokens
from ibllm_core.interfaces.text import TextDecoder
from ibllm_core.interfaces.tokenizer import BOS, EOS, PAD, SPECIAL

from .checks import expect, has_shape, is_latent, same
from .inputs import Inputs
from .parts import PartSuite
from .stand_ins import LetterTokenizer
from .suite import WIDTH

#: Texts that are enumerated: so many ids, so many tokens after the beginning.
_IDS, _LONG = 6, 3


class TextEncoderSuite(PartSuite):
    """E_x: tokens → latent."""

    kind = "text_encoder"
    sees_images = False

    def passes(self, part: Any, m: Inputs) -> dict[str, Tensor]:
        z = part(m.x)
        return {"tokens": z.tokens * z.mask.unsqueeze(-1), "mask": z.mask, "pooled": z.pooled}

    def check_shapes(self, part: Any, m: Inputs) -> None:
        z = part(m.x)
        is_latent(z, len(m), WIDTH if getattr(self.config(), "width", None) is None else part.width)
        expect(part.width == z.pooled.shape[-1], f"{self._name}: its width says {part.width}, its latents have {z.pooled.shape[-1]}")
        has_shape("embed", part.embed(m.x.ids), "b t e", (*m.x.ids.shape, None))

    def gradient_paths(self, part: Any, m: Inputs) -> Mapping[str, tuple[Tensor, ...]]:
        if "soft_tokens" not in self.config().provides():
            return {}
        found: dict[str, tuple[Tensor, ...]] = {}
        for what in ("pooled", "tokens"):
            embeddings = part.embed(m.x.ids).detach().requires_grad_(True)
            z = part.encode(embeddings, m.x.mask)
            given = z.pooled if what == "pooled" else z.tokens * z.mask.unsqueeze(-1)
            if given.requires_grad:
                given.square().sum().backward()
            found[f"the embeddings, from {what}"] = (embeddings,)
        return found

    def test_a_latent_place_belongs_to_each_token(self, device: torch.device) -> None:
        """Latent place i is token i's, so the latent's mask is the text's."""
        part, m = self._ready(device)
        z = part(m.x)
        has_shape("mask", z.mask, "b t", m.x.mask.shape)
        expect(bool((z.mask == m.x.mask).all()), f"{self._name}: the latent's mask must be the text's (b t)")

    def test_it_looks_back_alone_where_it_says_so(self, device: torch.device) -> None:
        """Capability ``causal``: later tokens change no earlier place."""
        if "causal" not in self.config().provides():
            return
        part, m = self._ready(device)
        half = m.x.ids.shape[1] // 2
        later = torch.arange(m.x.ids.shape[1], device=device) >= half
        other = Tokens(torch.where(later & m.x.mask, len(SPECIAL), m.x.ids), m.x.mask)
        with torch.no_grad():
            found, wanted = part(other).tokens[:, :half], part(m.x).tokens[:, :half]
        kept = m.x.mask[:, :half].unsqueeze(-1)
        same({"tokens": found * kept}, {"tokens": wanted * kept}, f"{self._name}: causal is declared, so later tokens must not matter")

    def test_soft_tokens(self, device: torch.device) -> None:
        """Capability ``soft_tokens``: mixtures of embeddings can be encoded, and gradients reach them and nothing that is masked."""
        if "soft_tokens" not in self.config().provides():
            return
        part, m = self._ready(device)
        mixed = (0.5 * part.embed(m.x.ids) + 0.5 * part.embed(m.other.ids.roll(1, 0)[:, : m.x.ids.shape[1]])).detach()
        mixed.requires_grad_(True)
        part.train()
        z = part.encode(mixed, m.x.mask)
        torch.stack([z.pooled.square().sum(), (z.tokens * z.mask.unsqueeze(-1)).square().sum()]).sum().backward()  # type: ignore[no-untyped-call]
        gradient = torch.zeros_like(mixed) if mixed.grad is None else mixed.grad
        reached = gradient.abs().sum(-1) > 0
        expect(bool(reached[m.x.mask].any()), f"{self._name}: soft_tokens is declared, but no gradient reaches the embeddings")
        expect(not bool(reached[~m.x.mask].any()), f"{self._name}: a gradient reaches embeddings that are masked")


class TextDecoderSuite(PartSuite):
    """D_x: latent → tokens."""

    kind = "text_decoder"
    sees_images = False

    def passes(self, part: Any, m: Inputs) -> dict[str, Tensor]:
        logits = part.logits(m.x.ids, m.x.mask, m.z)
        found = {"logits": logits * m.x.mask.unsqueeze(-1), "nll": part(m.x, m.z)}
        if "prefix" in self.config().provides():
            found["nll after a prefix"] = part(m.x, m.z, m.other)
        return found

    def samples(self, part: Any, m: Inputs) -> dict[str, Tensor]:
        found = {"greedy": part.sample(m.z), "drawn": part.sample(m.z, m.rng("sample"), temperature=1.0, top_p=0.9)}
        found["searched"] = part.sample(m.z, beams=3)
        if "prefix" in self.config().provides():
            found["greedy after a prefix"] = part.sample(m.z, prefix=m.other)
            found["searched after a prefix"] = part.sample(m.z, prefix=m.other, beams=3)
        return {name: torch.nn.functional.pad(t.ids, (0, part.max_length - t.ids.shape[1]), value=PAD) for name, t in found.items()}

    def check_shapes(self, part: Any, m: Inputs) -> None:
        assert isinstance(part, TextDecoder)
        tokenizer = self.context().tokenizer
        assert tokenizer is not None
        expect(part.vocabulary == tokenizer.size, f"{self._name}: vocabulary is {part.vocabulary}, the tokenizer has {tokenizer.size} ids")
        has_shape("logits", part.logits(m.x.ids, m.x.mask, m.z), "b t v", (*m.x.ids.shape, part.vocabulary))
        has_shape("nll", part(m.x, m.z), "b", (len(m),))
        logits, _ = part.step(torch.full((len(m),), BOS, device=m.y.device), part.begin(m.z))
        has_shape("step", logits, "b v", (len(m), part.vocabulary))

    def objective(self, part: Any, m: Inputs) -> Tensor:
        total: Tensor = part(m.x, m.z).sum()
        return total

    def gradient_paths(self, part: Any, m: Inputs) -> Mapping[str, tuple[Tensor, ...]]:
        z = leaf(m)
        self.objective(part, z).backward()  # type: ignore[no-untyped-call]
        return {"the latent": (z.z.tokens, z.z.pooled)}

    def test_written_texts_are_texts(self, device: torch.device) -> None:
        """What `sample` writes begins with the beginning, ends with the end, then padding, and is no longer than `max_length`."""
        part, m = self._ready(device)
        for what in (part.sample(m.z), part.sample(m.z, m.rng("sample"), temperature=1.0)):
            rows = [row[keep].tolist() for row, keep in zip(what.ids, what.mask, strict=True)]
            well = all(row[0] == BOS and row[-1] == EOS and not {PAD, BOS, EOS} & set(row[1:-1]) for row in rows)
            expect(well, f"{self._name}: expected beginning ({BOS}), text, end ({EOS}) in every row, got {rows}")
            expect(what.ids.shape[1] <= part.max_length, f"{self._name}: wrote {what.ids.shape[1]} tokens, max_length is {part.max_length}")

    def test_steps_give_what_reading_the_whole_gives(self, device: torch.device) -> None:
        """Token by token with its state (its cache), the decoder gives the logits of the teacher-forced pass; so no place looks ahead."""
        part, m = self._ready(device)
        with torch.no_grad():
            wanted, state, found = part.logits(m.x.ids, m.x.mask, m.z), part.begin(m.z), []
            for place in range(m.x.ids.shape[1]):
                logits, state = part.step(m.x.ids[:, place], state)
                found.append(logits)
        kept = m.x.mask.unsqueeze(-1)
        same(
            {"step": torch.stack(found, 1) * kept},
            {"step": wanted * kept},
            f"{self._name}: steps and logits must agree at every token",
        )

    def test_probabilities_sum_to_one(self, device: torch.device) -> None:
        """Capability ``exact_likelihood``: the probabilities of all texts of one length sum to 1."""
        if "exact_likelihood" not in self.config().provides():
            return
        sizes = {"text_encoder": _IDS, "text_decoder": _IDS}
        context = self.with_shared(attrs.evolve(self.context(), tokenizer=LetterTokenizer(_IDS, 10), vocabularies=sizes))
        part, m = self.make(context, device=device).eval(), self.fabricate(context, 2).to(device).take(0)
        bodies = torch.tensor(list(itertools.product(range(_IDS), repeat=_LONG)), device=device)
        ids = torch.nn.functional.pad(bodies, (1, 0), value=BOS)
        with torch.no_grad():
            nll = part(Tokens(ids, torch.ones_like(ids, dtype=torch.bool)), m.z.repeat(len(ids)))
        total = float(nll.double().neg().exp().sum())
        expect(abs(total - 1) < 1e-4, f"{self._name}: exp(−nll) over all {len(ids)} texts sums to {total:.6f}; exact_likelihood says 1")

    def test_a_prefix_conditions_and_is_not_counted(self, device: torch.device) -> None:
        """Capability ``prefix``: log p(text | prefix) = log p(prefix and text) − log p(prefix), the latter the same for every text."""
        if "prefix" not in self.config().provides():
            return
        part, m = self._ready(device)
        m, high = m.take(0, 0), part.vocabulary - 1
        body = torch.tensor([len(SPECIAL), high, len(SPECIAL)], device=device).expand(2, -1)
        texts = torch.tensor([[high, len(SPECIAL), EOS], [len(SPECIAL), high, EOS]], device=device)
        start = torch.full((2, 1), BOS, device=device)

        def tokens(*pieces: Tensor) -> Tokens:
            ids = torch.cat([start, *pieces], 1)
            return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))

        with torch.no_grad():
            whole = part(tokens(body, texts), m.z)
            after = part(tokens(texts), m.z, tokens(body, torch.full_like(start, EOS)))
        prefix = whole - after
        expect(
            bool((prefix[0] - prefix[1]).abs() < 1e-4) and bool((prefix > 0).all()),
            f"{self._name}: the chain rule does not hold after a prefix: log p(prefix) is {prefix.neg().tolist()} for two texts",
        )


def leaf(m: Inputs) -> Inputs:
    """The same with a latent and an image that want a gradient."""
    made = m.clone()
    for tensor in (made.z.tokens, made.z.pooled, made.y):
        tensor.requires_grad_(True)
    return made
