"""What codecs are asked."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ibllm_core.interfaces.image import ImageTokenizer, LatentCodec, Reconstruction

from .checks import expect, has_shape, same
from .inputs import Inputs
from .parts import PartSuite


class ImageTokenizerSuite(PartSuite):
    """Image ↔ discrete tokens, or continuous latents."""

    kind = "image_tokenizer"

    def passes(self, part: Any, m: Inputs) -> dict[str, Tensor]:
        found = part(m.y)
        return {"image": found.image, "regularisation": found.regularisation, **self._coded(part, m)}

    def _coded(self, part: Any, m: Inputs) -> dict[str, Tensor]:
        """What a codec gives, and what it makes of that."""
        given: dict[str, Tensor] = {}
        if isinstance(part, ImageTokenizer):
            ids = part.encode(m.y)
            given |= {"ids": ids, "image of the ids": part.decode(ids)}
        if isinstance(part, LatentCodec):
            latents = part.encode_latents(m.y)
            given |= {"latents": latents, "image of the latents": part.decode_latents(latents)}
        return given

    def check_shapes(self, part: Any, m: Inputs) -> None:
        found = part(m.y)
        expect(isinstance(found, Reconstruction), f"{self._name}: reconstruct gave a {type(found).__name__}, not a Reconstruction")
        has_shape("image", found.image, "b c h w", m.y.shape)
        has_shape("regularisation", found.regularisation, "b", (len(m),))
        images = {"reconstruct": found.image}
        if isinstance(part, ImageTokenizer):
            images["decode"] = self._check_tokens(part, found, m)
        if isinstance(part, LatentCodec):
            latents = part.encode_latents(m.y)
            has_shape("encode_latents", latents, "b c h w", (len(m), *part.latent_shape))
            images["decode_latents"] = part.decode_latents(3 * torch.randn_like(latents))
            has_shape("decode_latents", images["decode_latents"], "b c h w", m.y.shape)
        for what, image in images.items() if m.y.device.type != "meta" else ():
            far = float(image.detach().abs().max())
            expect(far <= 1 + 1e-5, f"{self._name}: {what} reaches {far:.3g}: the interface says images in [−1, 1]")

    def _check_tokens(self, part: ImageTokenizer, found: Reconstruction, m: Inputs) -> Tensor:
        """Checks the ids, and gives the images of others."""
        places, ids = part.grid[0] * part.grid[1], part.encode(m.y)
        expect(found.ids is not None, f"{self._name}: its Reconstruction has no ids, but it gives tokens")
        assert found.ids is not None
        has_shape("reconstruct's ids", found.ids, "b m", (len(m), places))
        has_shape("ids", ids, "b m", (len(m), places))
        digits = f"digits of {' · '.join(map(str, part.levels))} levels"
        expect(not part.levels or math.prod(part.levels) == part.vocabulary, f"{self._name}: {digits} do not make {part.vocabulary} ids")
        every = torch.arange(len(m) * places, device=ids.device).remainder(part.vocabulary).view(len(m), places)
        image = part.decode(every)
        has_shape("decode", image, "b c h w", m.y.shape)
        if ids.device.type != "meta":
            well = ids.dtype == torch.int64 and int(ids.min()) >= 0 and int(ids.max()) < part.vocabulary
            expect(well, f"{self._name}: ids are {ids.dtype} in [{ids.min()}, {ids.max()}]: expected int64 in [0, {part.vocabulary})")
        return image

    def objective(self, part: Any, m: Inputs) -> Tensor:
        found = part(m.y)
        total: Tensor = (found.image - m.y).float().square().flatten(1).mean(1).sum() + found.regularisation.sum()
        return total

    def test_its_class_agrees_with_its_capabilities(self, device: torch.device) -> None:
        """``tokens`` ⇔ ImageTokenizer, ``latents`` ⇔ LatentCodec; it is one of them."""
        part, provided = self._ready(device)[0], self.config().provides()
        for word, cls in (("tokens", ImageTokenizer), ("latents", LatentCodec)):
            declared, able = word in provided, isinstance(part, cls)
            expect(
                declared == able,
                f"{self._name}: provides() {'has' if declared else 'lacks'} {word}, but it is {'a' if able else 'no'} {cls.__name__}",
            )
        expect(bool({"tokens", "latents"} & provided), f"{self._name}: it gives neither tokens nor latents")

    def test_reconstructing_is_encoding_and_decoding(self, device: torch.device) -> None:
        """In evaluation mode `reconstruct` gives the ids of `encode`, and the image that `decode` makes of them; of a codec without tokens the one that
        `decode_latents` makes of the latents."""
        part, m = self._ready(device)
        with torch.no_grad():
            found, coded = part(m.y), self._coded(part, m)
        whole = {"image": found.image} | ({} if found.ids is None else {"ids": found.ids})
        again = {"image": coded["image of the latents" if found.ids is None else "image of the ids"]}
        same(again | ({} if found.ids is None else {"ids": coded["ids"]}), whole, f"{self._name}: the two ways must agree")

    def test_latents_are_decoded_differentiably(self, device: torch.device) -> None:
        """Capability ``latents``: a gradient goes through `decode_latents`, as losses on what a decoder draws need it, though nothing is trained here."""
        part, m = self._ready(device)
        if isinstance(part, LatentCodec):
            latents = part.requires_grad_(False).encode_latents(m.y).detach().requires_grad_(True)
            image = part.decode_latents(latents)
            found = torch.autograd.grad((image * (m.y + 0.1)).sum(), latents)[0] if image.requires_grad else torch.zeros_like(latents)
            expect(bool(found.any()), f"{self._name}: no gradient goes through decode_latents")

    def test_the_regularisation_is_what_is_declared(self, device: torch.device) -> None:
        """Capability ``regularisation``: it is not negative and trains something; without the capability, it is zero."""
        part, m = self._ready(device)
        found = part.train()(m.y).regularisation
        if "regularisation" in self.config().provides():
            expect(
                bool((found >= 0).all()) and found.requires_grad,
                f"{self._name}: regularisation is declared, but what reconstruct gives of it trains nothing",
            )
        else:
            expect(
                not bool(found.any()),
                f"{self._name}: regularisation is not declared, but it is not zero, so no loss will add it",
            )
