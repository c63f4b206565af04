"""What image encoders and image decoders are asked."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from ibllm_core.interfaces.context import ImageTokens
from ibllm_core.interfaces.image import DrawingDecoder, TokenDecoder
from ibllm_core.interfaces.noise import Rng

from .checks import expect, finite, has_shape, is_latent
from .inputs import Inputs
from .parts import PartSuite
from .suite import WIDTH
from .text import leaf


class ImageEncoderSuite(PartSuite):
    """E_y: image → latent."""

    kind = "image_encoder"

    def passes(self, part: Any, m: Inputs) -> dict[str, Tensor]:
        z = part(m.y)
        return {"tokens": z.tokens * z.mask.unsqueeze(-1), "mask": z.mask, "pooled": z.pooled}

    def check_shapes(self, part: Any, m: Inputs) -> None:
        z = part(m.y)
        is_latent(z, len(m), WIDTH if getattr(self.config(), "width", None) is None else part.width)
        expect(part.width == z.pooled.shape[-1], f"{self._name}: its width says {part.width}, its latents have {z.pooled.shape[-1]}")

    def gradient_paths(self, part: Any, m: Inputs) -> Mapping[str, tuple[Tensor, ...]]:
        seen = leaf(m)
        self.objective(part, seen).backward()  # type: ignore[no-untyped-call]
        return {"the image": (seen.y,)}


class ImageDecoderSuite(PartSuite):
    """D_y: latent (and noise) → image, or a codec's tokens or latents."""

    kind = "image_decoder"

    def passes(self, part: Any, m: Inputs) -> dict[str, Tensor]:
        found = {"nll": part(self._target(part, m), m.z, m.rng("nll"))}
        if isinstance(part, DrawingDecoder):
            found["drawn"] = part.draw(m.z, part.noise(m.z, m.rng("draw")))
        if "conditioning_augmentation" in self.config().provides():
            found |= dict(zip(("mean", "log_variance"), part.gaussian(m.z), strict=True))
        if "caption_likelihood" in self.config().provides():
            found |= dict(zip(("text nll", "image nll"), part.caption_nll(m.x, m.ids, m.z_x, m.rng("nll")), strict=True))
        return found

    def samples(self, part: Any, m: Inputs) -> dict[str, Tensor]:
        return {"sampled": part.sample(m.z, m.rng("sample"))}

    def check_shapes(self, part: Any, m: Inputs) -> None:
        self.check_meta_shapes(part, m)
        sampled = part.sample(m.z, m.rng("sample"))
        if isinstance(part, TokenDecoder):
            has_shape("sample", sampled, "b m", m.ids.shape)
            high = self._tokens().vocabulary
            well = sampled.dtype == torch.int64 and int(sampled.min()) >= 0 and int(sampled.max()) < high
            expect(well, f"{self._name}: sample gives {sampled.dtype} in [{sampled.min()}, {sampled.max()}]: expected int64 in [0, {high})")
        else:
            self._is_image("sample", sampled, m)

    def check_meta_shapes(self, part: Any, m: Inputs) -> None:
        has_shape("nll", part(self._target(part, m), m.z, m.rng("nll")), "b", (len(m),))
        if isinstance(part, DrawingDecoder):
            drawn = part.draw(m.z, part.noise(m.z, m.rng("draw")))
            self._is_image("draw", drawn, m)
            has_shape("likelihood", part.likelihood(m.y, drawn), "b", (len(m),))

    def _is_image(self, what: str, y: Tensor, m: Inputs) -> None:
        has_shape(what, y, "b c h w", m.y.shape)
        if y.device.type != "meta" and self.context().bounded:
            far = float(y.detach().abs().max())
            expect(far <= 1 + 1e-5, f"{self._name}: {what} reaches {far:.3g}: the interface says images in [−1, 1]")

    def objective(self, part: Any, m: Inputs) -> Tensor:
        total: Tensor = part(self._target(part, m), m.z, m.rng("nll")).sum()
        if "caption_likelihood" in self.config().provides():
            total = total + sum(nll.sum() for nll in part.caption_nll(m.x, m.ids, m.z_x, m.rng("nll")))
        return total

    def gradient_paths(self, part: Any, m: Inputs) -> Mapping[str, tuple[Tensor, ...]]:
        given = leaf(m)
        part(self._target(part, given), given.z, given.rng("nll")).sum().backward()
        found: dict[str, tuple[Tensor, ...]] = {"the latent, from nll": (given.z.tokens, given.z.pooled)}
        if isinstance(part, DrawingDecoder):
            again = leaf(m)
            noise = part.noise(again.z.detach(), again.rng("draw")).requires_grad_(True)
            (part.draw(again.z, noise) * (again.y.detach() + 0.1)).sum().backward()  # type: ignore[no-untyped-call]
            found["the latent, from draw"] = (again.z.tokens, again.z.pooled)
            if part.noise_width:
                found["the noise, from draw"] = (noise,)
        return found

    def test_its_class_agrees_with_its_capabilities(self, device: torch.device) -> None:
        """``differentiable_draw`` ⇔ DrawingDecoder, ``image_tokens`` ⇔ TokenDecoder; ``image_tokens`` asks for a codec with ``tokens``, ``image_latents`` for
        one with ``latents``."""
        part, config = self._ready(device)[0], self.config()
        for word, cls in (("differentiable_draw", DrawingDecoder), ("image_tokens", TokenDecoder)):
            declared, able = word in config.provides(), isinstance(part, cls)
            expect(
                declared == able,
                f"{self._name}: provides() {'has' if declared else 'lacks'} {word}, but it is {'a' if able else 'no'} {cls.__name__}",
            )
        for word, codes in (("image_tokens", "tokens"), ("image_latents", "latents")):
            asked = {"image_tokenizer", f"image_tokenizer.{codes}"}
            asks = asked <= config.needs() or word not in config.provides()
            expect(asks, f"{self._name}: provides() has {word}, but needs() lacks {' or '.join(sorted(asked - config.needs()))}")

    def test_noise_does_what_is_declared(self, device: torch.device) -> None:
        """Capability ``noise``: images of one latent differ where the noise does; without it they are the same."""
        part, m = self._ready(device)
        with torch.no_grad():
            first, second = (part.sample(m.z, m.rng(word)) for word in ("one", "another"))
        varies, declared = not torch.equal(first, second), "noise" in self.config().provides()
        problem = "is declared, but two samples with different rng are equal" if declared else "is not declared, but samples vary with rng"
        expect(varies == declared, f"{self._name}: noise {problem}")
        if isinstance(part, DrawingDecoder):
            expect(
                declared == (part.noise_width > 0),
                f"{self._name}: noise_width is {part.noise_width}, noise is {'' if declared else 'not '}declared",
            )

    def test_conditioning_augmentation(self, device: torch.device) -> None:
        """Capability ``conditioning_augmentation``: `gaussian` gives mean and log-variance (b k), no wider than the noise; else it raises."""
        part, m = self._ready(device)
        if "conditioning_augmentation" in self.config().provides():
            mean, log_variance = part.gaussian(m.z)
            has_shape("gaussian's mean", mean, "b k", (len(m), None))
            has_shape("gaussian's log_variance", log_variance, "b k", mean.shape)
            wide = mean.shape[1]
            expect(
                wide <= part.noise_width,
                f"{self._name}: the condition has {wide} numbers, the noise that it is drawn with {part.noise_width}",
            )
        elif hasattr(part, "gaussian"):
            self._refuses("gaussian", lambda: part.gaussian(m.z))

    def test_caption_likelihood(self, device: torch.device) -> None:
        """Capability ``caption_likelihood``: `caption_nll` gives (b) for the text and (b) for the image; else it raises."""
        part, m = self._ready(device)
        if "caption_likelihood" in self.config().provides():
            text, image = part.caption_nll(m.x, m.ids, m.z_x, m.rng("nll"))
            has_shape("the text's nll", text, "b", (len(m),))
            has_shape("the image's nll", image, "b", (len(m),))
            finite({"text": text, "image": image}, "as caption_nll gives them")
        elif hasattr(part, "caption_nll"):
            self._refuses("caption_nll", lambda: part.caption_nll(m.x, m.ids, m.z_x, m.rng("nll")))

    def test_probabilities_sum_to_one(self, device: torch.device) -> None:
        """Capability ``exact_likelihood`` of a token decoder: the probabilities of all images of 2 × 2 tokens sum to 1."""
        if not {"exact_likelihood", "image_tokens"} <= self.config().provides():
            return
        context = attrs.evolve(self.context(), image_tokens=ImageTokens(vocabulary=3, rows=2, columns=2))
        part, m = self.make(context, device=device).eval(), self.fabricate(context, 2).to(device).take(0)
        ids = torch.tensor(list(itertools.product(range(3), repeat=4)), device=device)
        with torch.no_grad():
            nll = part(ids, m.z.repeat(len(ids)), Rng((0,), m.numbers.repeat(len(ids)), device))
        total = float(nll.double().neg().exp().sum())
        expect(abs(total - 1) < 1e-4, f"{self._name}: exp(−nll) over all {len(ids)} images sums to {total:.6f}; exact_likelihood says 1")

    def _refuses(self, what: str, call: Any) -> None:
        try:
            call()
        except (NotImplementedError, AssertionError):
            return
        raise AssertionError(f"{self._name}: {what} works, but its capability is not declared, so nobody will ask for it")

    def _target(self, part: Any, m: Inputs) -> Tensor:
        return m.ids if isinstance(part, TokenDecoder) else m.y

    def _tokens(self) -> ImageTokens:
        tokens = self.context().image_tokens
        assert tokens is not None
        return tokens
